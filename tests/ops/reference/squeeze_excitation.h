// Naive references of the squeeze-excitation, in double precision, of arrays by their names in
// squeeze_excitation.h.
#pragma once
#include "engine/ops/squeeze_excitation.h"
#include "tests/ops/reference/elementwise.h"

namespace plume::test::reference {

// out[n, i] = bias[i] + sum over j of w[i, j] in[n, j]
inline void squeeze_products(const Array& in, const Array& w, const Array& bias, Array& out) {
  for (int64_t n = 0; n < out.dim(0); ++n)
    for (int64_t i = 0; i < out.dim(1); ++i) {
      Sum sum;
      for (int64_t j = 0; j < in.dim(1); ++j) sum += in.at(n, j) * w.at(i, j);
      sum += bias[i];
      out.at(n, i) = sum;
    }
}

inline void squeeze_excitation(const SqueezeExcitationParams& params, Arrays& a) {
  const Array& x = a["x"];
  const int64_t plane = x.dim(1) * x.dim(2);
  for (int64_t n = 0; n < x.dim(0); ++n)
    for (int64_t c = 0; c < x.dim(3); ++c) {
      Sum sum;
      for (int64_t i = 0; i < plane; ++i) sum += x.at(n * plane + i, c);
      a["pooled"].at(n, c) = Real(sum) / double(plane);
    }
  squeeze_products(a["pooled"], a["w1"], a["b1"], a["z1"]);
  Array hidden = a["z1"];
  for (Real& v : hidden.values) v = activate(params.inner, v);
  squeeze_products(hidden, a["w2"], a["b2"], a["z2"]);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t n = i / (plane * x.dim(3)), c = i % x.dim(3);
    a["y"][i] = x[i] * activate(params.gate, a["z2"].at(n, c));
  }
}

inline void squeeze_excitation_backward(const SqueezeExcitationParams& params, Arrays& a) {
  const Array &x = a["x"], &dy = a["dy"], &w1 = a["w1"], &w2 = a["w2"];
  const int64_t images = x.dim(0), plane = x.dim(1) * x.dim(2), channels = x.dim(3), hidden = w1.dim(0);
  Array dz2({images, channels}), dz1({images, hidden}), h({images, hidden});
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      Sum sum;
      for (int64_t i = 0; i < plane; ++i) sum += x.at(n * plane + i, c) * dy.at(n * plane + i, c);
      dz2.at(n, c) = Real(sum) * slope(params.gate, a["z2"].at(n, c));
    }
    for (int64_t q = 0; q < hidden; ++q) {
      Sum sum;
      for (int64_t c = 0; c < channels; ++c) sum += dz2.at(n, c) * w2.at(c, q);
      dz1.at(n, q) = Real(sum) * slope(params.inner, a["z1"].at(n, q));
      h.at(n, q) = activate(params.inner, a["z1"].at(n, q));
    }
    for (int64_t c = 0; c < channels; ++c) {
      Sum sum;
      for (int64_t q = 0; q < hidden; ++q) sum += dz1.at(n, q) * w1.at(q, c);
      const Real shift = Real(sum) / double(plane), gate = activate(params.gate, a["z2"].at(n, c));
      for (int64_t i = 0; i < plane; ++i)
        a["dx"].at(n * plane + i, c) = dy.at(n * plane + i, c) * gate + shift;
    }
  }
  const auto weights = [&](const Array& left, const Array& right, Array& dw, Array& db) {
    for (int64_t i = 0; i < dw.dim(0); ++i) {
      Sum plain;
      for (int64_t n = 0; n < images; ++n) plain += left.at(n, i);
      db[i] = plain;
      for (int64_t j = 0; j < dw.dim(1); ++j) {
        Sum sum;
        for (int64_t n = 0; n < images; ++n) sum += left.at(n, i) * right.at(n, j);
        dw.at(i, j) = sum;
      }
    }
  };
  weights(dz2, h, a["dw2"], a["db2"]);
  weights(dz1, a["pooled"], a["dw1"], a["db1"]);
}

}  // namespace plume::test::reference
