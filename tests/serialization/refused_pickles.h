// Pickles that the reader must refuse.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "engine/core/error.h"
#include "engine/serialization/pickle.h"

namespace plume::test {

// In one line that names the kind of fault and the byte.
inline void refuse(const std::string& bytes, const std::string& kind, const std::string& what = "") {
  try {
    const Pickle pickle(bytes, "FILE");
    ADD_FAILURE() << "accepted, expected " << kind << ": " << testing::PrintToString(bytes.substr(0, 100));
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_THAT(error.what(), testing::StartsWith("FILE: " + kind + ": byte "));
    EXPECT_THAT(error.what(), testing::HasSubstr(what));
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr("\n")));
    EXPECT_LT(std::strlen(error.what()), 500u);
  }
}

}  // namespace plume::test
