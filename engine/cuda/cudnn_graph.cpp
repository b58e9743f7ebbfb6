#include "engine/cuda/cudnn_graph.h"

namespace plume::cuda {
namespace {

constexpr cudnnDataType_t kAccumulator = CUDNN_DATA_FLOAT;

// A relu is not to swallow a NaN. cuDNN 8 says that it does unless it is told so; 9 calls the names old and
// takes them.
void carry_nan(Descriptor& relu) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  const cudnnNanPropagation_t carry = CUDNN_PROPAGATE_NAN;
  relu.set(CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, &carry);
#pragma GCC diagnostic pop
}

}  // namespace

Layout channels_last(const Shape& s) {
  return {{s[0], s[3], s[1], s[2]}, {s[1] * s[2] * s[3], 1, s[2] * s[3], s[3]}};
}

Layout per_channel(int64_t channels) { return {{1, channels, 1, 1}, {channels, 1, channels, channels}}; }

void Graph::add_tensor(int64_t id, const Layout& layout, cudnnDataType_t type,
                       cudnnBackendAttributeName_t flag, bool flagged) {
  constexpr int64_t kAlignment = 16;
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &kAlignment);
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, layout.dims.data());
  d.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, layout.strides.data());
  d.set(flag, CUDNN_TYPE_BOOLEAN, 1, &flagged);
  d.finalize();
  tensors_.emplace(id, std::move(d));
}

void Graph::tensor(int64_t id, const Layout& layout, cudnnDataType_t type, bool inner) {
  add_tensor(id, layout, type, CUDNN_ATTR_TENSOR_IS_VIRTUAL, inner);
}

void Graph::number(int64_t id) {
  add_tensor(id, per_channel(1), CUDNN_DATA_FLOAT, CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
}

void Graph::convolution(Convolution pass, const Conv2dParams& params, int64_t input, int64_t filter,
                        int64_t output) {
  Descriptor& c = parameters_.emplace_back(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  const int64_t spatial = 2;
  const int64_t strides[] = {params.stride, params.stride}, pads[] = {params.padding, params.padding},
                dilations[] = {params.dilation, params.dilation};
  c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &kAccumulator);
  c.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
  c.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
  c.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
  c.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  c.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
  c.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
  c.finalize();

  struct Names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, input, filter, output, alpha, beta;
  };
  static constexpr Names kNames[] = {
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
       CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
      {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
       CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
  };
  const Names& names = kNames[size_t(pass)];
  const float alpha = 1, beta = 0;
  Descriptor operation(names.type);
  operation.set(names.convolution, c);
  operation.set(names.input, tensors_.at(input));
  operation.set(names.filter, tensors_.at(filter));
  operation.set(names.output, tensors_.at(output));
  operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
  operation.set(names.beta, CUDNN_TYPE_FLOAT, 1, &beta);
  operation.finalize();
  operations_.push_back(std::move(operation));
}

Descriptor& Graph::add_pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y, double upper) {
  Descriptor& p = parameters_.emplace_back(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  p.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
  p.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &kAccumulator);
  if (mode == CUDNN_POINTWISE_RELU_FWD) carry_nan(p);
  if (upper > 0) p.set(CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, 1, &upper);
  p.finalize();
  Descriptor& operation = operations_.emplace_back(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensors_.at(x));
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensors_.at(y));
  return operation;
}

void Graph::pointwise(cudnnPointwiseMode_t mode, int64_t x, int64_t y) {
  add_pointwise(mode, x, y).finalize();
}

void Graph::clipped_relu(double upper, int64_t x, int64_t y) {
  add_pointwise(CUDNN_POINTWISE_RELU_FWD, x, y, upper).finalize();
}

void Graph::pointwise(cudnnPointwiseMode_t mode, int64_t a, int64_t b, int64_t y) {
  Descriptor& operation = add_pointwise(mode, a, y);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensors_.at(b));
  operation.finalize();
}

Descriptor Graph::described(cudnnHandle_t handle, bool any_size) const {
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  std::vector<cudnnBackendDescriptor_t> operations;
  for (const Descriptor& o : operations_) operations.push_back(o.raw());
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, int64_t(operations.size()),
            operations.data());
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
#if CUDNN_VERSION >= 90800
  if (any_size)
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, CUDNN_TYPE_BOOLEAN, 1, &any_size);
#else
  PLUME_CHECK(!any_size, "cuDNN {}: no kernels for any size", CUDNN_VERSION);
#endif
  return graph;
}

}  // namespace plume::cuda
