// SPDX-License-Identifier: Apache-2.0
// heed_c.hpp: what the files that implement heed.h share; internal to them.
#pragma once
#include <cstring>
#include <type_traits>

#include "runtime/heed.h"
#include "runtime/kernels.hpp"
#include "runtime/model.hpp"
#include "runtime/parallel.hpp"
#include "runtime/span.hpp"
#include "runtime/status.hpp"

namespace heed {

template <class T, class C>
constexpr bool fits() {
  // Zeroing and copying the storage is all that C does to an object.
  return sizeof(T) <= sizeof(C) && alignof(T) <= alignof(C) && std::is_trivially_copyable_v<T> &&
         std::is_trivially_destructible_v<T>;
}

inline const Kernels& of(const heed_kernels* k) { return *reinterpret_cast<const Kernels*>(k); }
inline const heed_kernels* for_c(const Kernels* k) { return reinterpret_cast<const heed_kernels*>(k); }
inline const Model& of(const heed_model* m) { return *reinterpret_cast<const Model*>(m); }
inline heed_status for_c(Status s) { return static_cast<heed_status>(s); }

inline bool created(const heed_model* m) { return m && of(m).image().data(); }

// What creating an object came to; refused, it is zeroed.
template <class C>
heed_status finish(C* object, Status status) {
  if (status != Status::ok) std::memset(object, 0, sizeof *object);
  return for_c(status);
}

inline bool all_zero(const void* data, std::size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  unsigned any = 0;
  for (std::size_t i = 0; i < bytes; ++i) any |= p[i];
  return any == 0;
}

inline Span<std::byte> memory(void* data, std::size_t bytes) { return {static_cast<std::byte*>(data), bytes}; }

// Lends threads to a session or a layer, or takes them back.
template <class Layer>
heed_status lend(Layer& layer, const heed_parallel* parallel) {
  if (parallel && (!parallel->run || parallel->threads == 0)) return HEED_BAD_ARGUMENT;
  if constexpr (kBuiltFeatures.threads) {
    Parallel lent;
    if (parallel) lent = {parallel->run, parallel->context, parallel->threads, parallel->threshold};
    layer.set_parallel(lent);
    return HEED_OK;
  } else {
    return parallel ? HEED_FEATURE_NOT_BUILT : HEED_OK;
  }
}

}  // namespace heed
