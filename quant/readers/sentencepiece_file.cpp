// SPDX-License-Identifier: Apache-2.0
// sentencepiece_file.cpp: the messages of sentencepiece_model.proto that decide about tokens; what is about training,
// and the test samples that a model carries, are passed over.
#include "quant/readers/sentencepiece_file.hpp"

#include "quant/readers/protobuf.hpp"
#include "runtime/tokenizer.hpp"

namespace heed::quant {
namespace {

using Wire = ProtobufMessage::Wire;

// ModelProto
constexpr std::uint32_t kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5;
// ModelProto.SentencePiece
constexpr std::uint32_t kText = 1, kScore = 2, kType = 3;
// TrainerSpec
constexpr std::uint32_t kModelType = 3, kWhitespaceAsSuffix = 24, kByteFallback = 35, kUnkSurface = 44, kUnkPiece = 45,
                        kBosPiece = 46, kEosPiece = 47, kPadPiece = 48;
// NormalizerSpec
constexpr std::uint32_t kName = 1, kCharsmap = 2, kAddDummyPrefix = 3, kRemoveExtraWhitespaces = 4,
                        kEscapeWhitespaces = 5;

Error read_piece(SentencePiece& piece, Span<const std::uint8_t> message) {
  ProtobufMessage fields(message);
  while (fields.next()) {
    if (fields.is(kText, Wire::bytes)) {
      piece.text = fields.text();
    } else if (fields.is(kScore, Wire::fixed32)) {
      piece.score = fields.float32();
    } else if (fields.is(kType, Wire::varint)) {
      if (fields.number() < 1 || fields.number() > 6)
        return Error("has the type " + std::to_string(fields.number()) + ", which is none of 1 to 6");
      piece.type = static_cast<SentencePieceType>(fields.number());
    }
  }
  if (fields.broken()) return Error("is broken");
  if (piece.score - piece.score != 0.0f) return Error("has a score that is not a finite number");
  return {};
}

Error read_trainer(SentencePieceFile& result, Span<const std::uint8_t> message) {
  ProtobufMessage fields(message);
  while (fields.next()) {
    if (fields.is(kModelType, Wire::varint)) {
      if (fields.number() < 1 || fields.number() > 4)
        return Error("model_type " + std::to_string(fields.number()) + " is none of 1 to 4");
      result.algorithm = static_cast<SentencePieceFile::Algorithm>(fields.number());
    } else if (fields.is(kWhitespaceAsSuffix, Wire::varint)) {
      result.whitespace_as_suffix = fields.flag();
    } else if (fields.is(kByteFallback, Wire::varint)) {
      result.byte_fallback = fields.flag();
    } else if (fields.is(kUnkSurface, Wire::bytes)) {
      result.unk_surface = fields.text();
    } else if (fields.is(kUnkPiece, Wire::bytes)) {
      result.unk_piece = fields.text();
    } else if (fields.is(kBosPiece, Wire::bytes)) {
      result.bos_piece = fields.text();
    } else if (fields.is(kEosPiece, Wire::bytes)) {
      result.eos_piece = fields.text();
    } else if (fields.is(kPadPiece, Wire::bytes)) {
      result.pad_piece = fields.text();
    }
  }
  return fields.broken() ? Error("its trainer_spec is broken") : Error();
}

Error read_normalizer(SentencePieceFile& result, Span<const std::uint8_t> message) {
  ProtobufMessage fields(message);
  while (fields.next()) {
    if (fields.is(kName, Wire::bytes)) {
      result.normalizer = fields.text();
    } else if (fields.is(kCharsmap, Wire::bytes)) {
      result.charsmap = fields.bytes();
    } else if (fields.is(kAddDummyPrefix, Wire::varint)) {
      result.add_dummy_prefix = fields.flag();
    } else if (fields.is(kRemoveExtraWhitespaces, Wire::varint)) {
      result.remove_extra_whitespaces = fields.flag();
    } else if (fields.is(kEscapeWhitespaces, Wire::varint)) {
      result.escape_whitespaces = fields.flag();
    }
  }
  return fields.broken() ? Error("its normalizer_spec is broken") : Error();
}

// A denormaliser without rules, which most files have, changes nothing.
Error read_denormalizer(SentencePieceFile& result, Span<const std::uint8_t> message) {
  ProtobufMessage fields(message);
  while (fields.next())
    if (fields.is(kCharsmap, Wire::bytes)) result.denormalizes = !fields.bytes().empty();
  return fields.broken() ? Error("its denormalizer_spec is broken") : Error();
}

}  // namespace

Error read_sentencepiece_file(SentencePieceFile& result, Span<const std::uint8_t> file) {
  result = {};
  ProtobufMessage fields(file);
  while (fields.next()) {
    if (fields.is(kPieces, Wire::bytes)) {
      // An empty piece takes two bytes of a file and a hundred of memory, so the count is bounded besides.
      if (result.pieces.size() == kMaxVocabSize) return Error("it has more than 2^24 - 1 pieces");
      SentencePiece piece;
      if (Error error = read_piece(piece, fields.bytes()))
        return error.about("piece " + std::to_string(result.pieces.size()));
      if (piece.text.empty()) return Error("piece " + std::to_string(result.pieces.size()) + " is empty");
      result.pieces.push_back(std::move(piece));
    } else if (fields.is(kTrainer, Wire::bytes)) {
      if (Error error = read_trainer(result, fields.bytes())) return error;
    } else if (fields.is(kNormalizer, Wire::bytes)) {
      if (Error error = read_normalizer(result, fields.bytes())) return error;
    } else if (fields.is(kDenormalizer, Wire::bytes)) {
      if (Error error = read_denormalizer(result, fields.bytes())) return error;
    }
  }
  if (fields.broken()) return Error("its protobuf is broken or cut off");
  return result.pieces.empty() ? Error("it has no pieces, so it is no SentencePiece model") : Error();
}

}  // namespace heed::quant
