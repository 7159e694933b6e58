// SPDX-License-Identifier: Apache-2.0
// convert_test.cpp: from files to images, as the command line does it.
#include "quant/convert.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/tokenizer.hpp"
#include "tests/quant/checkpoints.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/test_data.hpp"

namespace heed {
extern const Kernels kernels_portable;
}

using namespace heed;
using namespace heed::quant;

namespace {

// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "heed-convert-XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  ~Folder() {
    std::error_code code;
    std::filesystem::remove_all(path_, code);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

void save(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()),
                                               static_cast<std::streamsize>(bytes.size()));
}

ImageBytes converted(const std::string& source, const ConvertOptions& options, const std::string& tokenizer = {}) {
  ImageBytes image;
  ConvertReport report;
  const Error error = convert(image, report, source, tokenizer, options, kernels_portable);
  INFO(error.sentence());
  REQUIRE_FALSE(error);
  CHECK(report.image_bytes == image.size());
  Model model;
  REQUIRE(open(model, {image.data(), image.size()}, kernels_portable) == Status::ok);
  REQUIRE(verify(model, kernels_portable) == Status::ok);
  return image;
}

std::string refusal(const std::string& source, const ConvertOptions& options = {}, const std::string& tokenizer = {}) {
  ImageBytes image;
  ConvertReport report;
  return convert(image, report, source, tokenizer, options, kernels_portable).sentence();
}

// tokenizer.bin with this many one-letter pieces behind the three control tokens.
std::vector<std::uint8_t> tokenizer_bytes(std::uint32_t vocab_size) {
  std::vector<std::uint8_t> bytes = {1, 0, 0, 0};
  for (std::uint32_t i = 0; i < vocab_size; ++i) {
    const std::uint8_t head[8] = {0, 0, 0, 0, 1, 0, 0, 0};
    bytes.insert(bytes.end(), head, head + 8);
    bytes.push_back(static_cast<std::uint8_t>(i < 4 ? ' ' + i : 'A' + i));
  }
  return bytes;
}

}  // namespace

TEST_CASE("every layout and group of a checkpoint gives an accepted image, the same bytes each time") {
  const Folder folder;
  for (const bool tied : {true, false}) {
    const std::string source = folder.file("model.bin");
    save(source, test::checkpoint_bytes(golden::numbered_model(test::small_config(tied), 3), tied ? 0 : 1));
    for (const Layout layout : {Layout::row, Layout::packed, Layout::pair, Layout::block64}) {
      for (const std::uint32_t group : {0u, 32u, 64u, 128u, 256u}) {
        ConvertOptions options;
        options.layout = layout;
        options.quantize.group = group;
        CHECK(converted(source, options) == converted(source, options));
      }
    }
  }
}

TEST_CASE("an image converts to every layout and back to the same bytes") {
  const Folder folder;
  const std::string source = folder.file("model.bin"), vocabulary = folder.file("tokenizer.bin");
  save(source, test::checkpoint_bytes(golden::numbered_model(test::small_config(true), 3), 0));
  save(vocabulary, tokenizer_bytes(30));
  ConvertOptions options;
  options.layout = Layout::row;
  options.name = "a model";
  options.licence = "MIT";
  const ImageBytes first = converted(source, options, vocabulary);
  ImageBytes image = first;
  for (const Layout layout : {Layout::packed, Layout::pair, Layout::block64, Layout::row}) {
    const std::string path = folder.file("step.heed");
    REQUIRE_FALSE(write_file(path, {image.data(), image.size()}));
    ConvertOptions next;
    next.layout = layout;
    image = converted(path, next);
    Model model;
    REQUIRE(open(model, {image.data(), image.size()}, kernels_portable) == Status::ok);
    CHECK(model.layout() == layout);
    CHECK(metadata_value(model.metadata(), "name") == "a model");
    CHECK(metadata_value(model.metadata(), "licence") == "MIT");
    CHECK(metadata_value(model.metadata(), "source") == "llama2.c version 0");
    CHECK(metadata_value(model.metadata(), "nam").empty());
    Tokenizer tokenizer;
    CHECK(open(tokenizer, model.tokenizer(), 30) == Status::ok);
  }
  CHECK(image == first);
}

TEST_CASE("a shorter context is taken, a longer one refused") {
  const Folder folder;
  const std::string source = folder.file("model.bin");
  save(source, test::checkpoint_bytes(golden::numbered_model(test::small_config(true), 3), 0));
  ConvertOptions options;
  options.context = 7;
  ImageBytes image = converted(source, options);
  Model model;
  REQUIRE(open(model, {image.data(), image.size()}, kernels_portable) == Status::ok);
  CHECK(model.config().main().max_seq == 7);
  options.context = 17;
  CHECK(refusal(source, options).find("a context of 17 is more than the model's 16") != std::string::npos);
}

TEST_CASE("refusals name the file and the reason") {
  const Folder folder;
  const std::string source = folder.file("model.bin"), other = folder.file("other.bin");
  save(source, test::checkpoint_bytes(golden::numbered_model(test::small_config(true), 3), 0));
  const auto names = [](const std::string& sentence, const std::string& path, const char* why) {
    INFO(sentence);
    return sentence.compare(0, path.size(), path) == 0 && sentence.find(why) != std::string::npos &&
           sentence.find('\n') == std::string::npos;
  };
  CHECK(names(refusal(folder.file("absent.bin")), folder.file("absent.bin"), "no such file"));
  CHECK(names(refusal(folder.file("")), folder.file(""), "a folder without config.json"));
  save(other, {});
  CHECK(names(refusal(other), other, "empty"));
  save(other, {'G', 'G', 'U', 'F', 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(names(refusal(other), other, "it has no tensors, so it is no model"));
  save(other, std::vector<std::uint8_t>(100, 0xFF));
  CHECK(names(refusal(other), other, "not a model that heed can read"));
  CHECK(names(refusal(source, {}, folder.file("absent")), folder.file("absent"), "no such file"));
  save(other, tokenizer_bytes(29));
  CHECK(names(refusal(source, {}, other), other, "tokenizer"));

  const ImageBytes image = converted(source, {});
  std::vector<std::uint8_t> broken(image.begin(), image.end());
  save(other, broken);
  FloatModel model;
  CHECK(names(read_model(model, other).sentence(), other, "has no floats"));
  ConvertOptions grouped;
  grouped.quantize.group = 32;
  CHECK(names(refusal(other, grouped), other, "keeps its groups"));
  CHECK(names(refusal(other, {}, source), other, "keeps its tokenizer"));
  broken.back() ^= 1;
  save(other, broken);
  CHECK(names(refusal(other), other, "checksum"));
  broken.pop_back();
  save(other, broken);
  CHECK(names(refusal(other), other, "truncated"));
}

TEST_CASE("a failed write leaves the old file, and nothing beside it") {
  const Folder folder;
  const std::string path = folder.file("kept");
  const std::uint8_t old_bytes[3] = {1, 2, 3}, new_bytes[2] = {4, 5};
  REQUIRE_FALSE(write_file(path, old_bytes));
  REQUIRE_FALSE(write_file(path, new_bytes));
  SourceFile file;
  REQUIRE_FALSE(file.open(path));
  CHECK(file.bytes().size() == 2);
  // A folder in the way of the rename.
  const std::string taken = folder.file("taken");
  std::filesystem::create_directory(taken);
  CHECK(write_file(taken, new_bytes).sentence().find(taken) == 0);
  CHECK(std::filesystem::is_directory(taken));
  CHECK(check_writable(taken).sentence() == write_file(taken, new_bytes).sentence());
  CHECK(write_file(folder.file("no/such/folder"), new_bytes).sentence().find("cannot be written") != std::string::npos);
}

TEST_CASE("a file is written through a link, with its permissions, past what others keep beside it") {
  namespace fs = std::filesystem;
  const Folder folder;
  const std::string path = folder.file("real"), link = folder.file("link"), others = path + ".part";
  const std::uint8_t old_bytes[3] = {1, 2, 3}, new_bytes[2] = {4, 5};
  const fs::perms mode = fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read;
  REQUIRE_FALSE(write_file(path, old_bytes));
  REQUIRE_FALSE(write_file(others, old_bytes));
  fs::permissions(path, mode);
  fs::create_symlink("real", link);
  REQUIRE_FALSE(write_file(link, new_bytes));
  CHECK(fs::is_symlink(link));
  CHECK(fs::file_size(path) == 2);
  CHECK(fs::status(path).permissions() == mode);
  CHECK(fs::file_size(others) == 3);

  fs::remove(path);
  CHECK(write_file(link, new_bytes).sentence() == link + ": cannot be written: it is a symbolic link to nothing");
  CHECK_FALSE(fs::exists(path));
  CHECK(std::distance(fs::directory_iterator(fs::path(path).parent_path()), {}) == 2);  // the link and the others'
  CHECK(write_file("", new_bytes).sentence() == "an empty path cannot be written");
}

namespace {

volatile std::sig_atomic_t signals_seen = 0;
void count_signal(int) { signals_seen = signals_seen + 1; }

}  // namespace

TEST_CASE("a signal that would end the program waits until nothing is left of a file") {
  namespace fs = std::filesystem;
  const Folder folder;
  const std::string path = folder.file("kept");
  const std::uint8_t old_bytes[3] = {1, 2, 3}, new_bytes[2] = {4, 5};
  REQUIRE_FALSE(write_file(path, old_bytes));
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGXFSZ}) {
    for (const bool ignored : {false, true}) {
      INFO(signal << (ignored ? " ignored" : ""));
      fs::resize_file(path, 3);
      signals_seen = 0;
      const auto before = std::signal(signal, ignored ? SIG_IGN : count_signal);
      sigset_t one, old;
      sigemptyset(&one);
      sigaddset(&one, signal);
      REQUIRE(pthread_sigmask(SIG_BLOCK, &one, &old) == 0);
      REQUIRE(std::raise(signal) == 0);  // waits, as one that comes while bytes are written
      const Error error = write_file(path, new_bytes);
      CHECK(error.sentence() == (ignored ? "" : path + ": cannot be written: a signal came"));
      CHECK(fs::file_size(path) == (ignored ? 2 : 3));
      CHECK(std::distance(fs::directory_iterator(fs::path(path).parent_path()), {}) == 1);
      REQUIRE(pthread_sigmask(SIG_SETMASK, &old, nullptr) == 0);
      CHECK(signals_seen == (ignored ? 0 : 1));
      std::signal(signal, before);
    }
  }
}

TEST_CASE("an output that is read is refused, by links of either kind too") {
  namespace fs = std::filesystem;
  const Folder folder;
  const std::string source = folder.file("model.bin"), vocabulary = folder.file("tokenizer.bin"),
                    list = folder.file("list"), hard = folder.file("hard"), soft = folder.file("soft");
  for (const std::string& path : {source, vocabulary, list}) save(path, {1, 2, 3});
  fs::create_hard_link(source, hard);
  fs::create_symlink(vocabulary, soft);
  CHECK_FALSE(check_output(folder.file("new"), source, vocabulary, {}));
  for (const std::string& output : {source, vocabulary, hard, soft, folder.file("./model.bin")})
    CHECK(check_output(output, source, vocabulary, {}).sentence().find("which is read") != std::string::npos);
  CHECK(check_output(list, source, "chars-file:" + list, {}).sentence().find("which is read") != std::string::npos);
  CHECK_FALSE(check_output(list, source, "chars:" + list, {}));
  const ImageBytes image = golden::tiny_image(Layout::row, kernels_portable);
  REQUIRE_FALSE(write_file(source, {image.data(), image.size()}));
  CHECK_FALSE(check_output(source, source, "", {}));  // lossless
  ConvertOptions shorter;
  shorter.context = 4;
  CHECK(check_output(source, source, "", shorter).sentence().find("which is read") != std::string::npos);
}

TEST_CASE("metadata is lines, whatever is put into it") {
  const std::string text = metadata_text({{"name", "two\nlines=\t\x7F"}, {"licence", "MIT"}, {"empty", ""}});
  CHECK(text == "name=two lines=  \nlicence=MIT\nempty=\n");
  const Span<const std::uint8_t> section(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  CHECK(metadata_value(section, "name") == "two lines=  ");
  CHECK(metadata_value(section, "empty").empty());
  CHECK(metadata_value(section, "lines").empty());
}

TEST_CASE("stories260K: plain rows, folded gains, and the same image on every host", "[data]") {
  const std::string source = test::data_path("stories260K/stories260K.bin"),
                    vocabulary = test::data_path("stories260K/tok512.bin");
  if (source.empty() || vocabulary.empty()) return;
  ImageBytes image;
  ConvertReport report;
  ConvertOptions options;
  REQUIRE_FALSE(convert(image, report, source, vocabulary, options, kernels_portable));
  for (const SiteReport& site : report.quantize.sites[0]) {
    CHECK(site.group == 0);
    CHECK(site.error < 0.024);
  }
  CHECK(report.config.main().flags == (kAttentionGainFolded | kFfnGainFolded | kKeyOffset));
  CHECK(report.parameters == 260032);
  CHECK(report.quantize.matrix_error < 0.0065);
  CHECK(report.quantize.calibration_positions == 256);
  // Every bit of it; a change of the quantiser, the tokenizer tables or the metadata changes this number knowingly.
  CHECK(kernels_portable.crc32c(0, image.data(), image.size()) == 0xc03dc450u);
}
