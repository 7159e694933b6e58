// SPDX-License-Identifier: Apache-2.0
// runtime.hpp: the only header of runtime/ that an application includes.
#pragma once
#include "runtime/digest.hpp"
#include "runtime/generation.hpp"
#include "runtime/layers.hpp"
#include "runtime/sampler.hpp"
#include "runtime/session.hpp"
#include "runtime/tokenizer.hpp"
