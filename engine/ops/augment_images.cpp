#include "engine/ops/augment_images.h"

namespace plume {

constinit KernelSlot<AugmentImages> augment_images_forward{"augment_images", costs<CallClass::movement>};

Tensor augment_images(const AugmentBatch& batch, Device device, DType dtype) {
  PLUME_CHECK(batch.plans.defined() && batch.plans.dtype() == DType::u8 && batch.plans.rank() == 2 &&
                  batch.plans.dim(1) == int64_t(sizeof(AugmentPlan)),
              "augment_images: plans are {}, expected u8 [images, {}]",
              batch.plans.defined() ? to_string(batch.plans) : "undefined", sizeof(AugmentPlan));
  PLUME_CHECK(batch.pixels.defined() && batch.pixels.dtype() == DType::u8,
              "augment_images: pixels are {}, expected u8",
              batch.pixels.defined() ? to_string(batch.pixels) : "undefined");
  PLUME_CHECK(batch.height >= 1 && batch.width >= 1 && batch.height <= kMostAugmentSide &&
                  batch.width <= kMostAugmentSide,
              "augment_images: outputs of {}x{} pixels, expected sides of 1 to {}", batch.height, batch.width,
              kMostAugmentSide);
  AugmentBatch here = batch;
  here.pixels = batch.pixels.to(device);
  here.plans = batch.plans.to(device);
  if (batch.taps.defined()) here.taps = batch.taps.to(device);
  Tensor images =
      Tensor::empty({batch.images(), int64_t(batch.height), int64_t(batch.width), 3}, dtype, device, "batch");
  augment_images_forward(context(device), here, images);
  return images;
}

}  // namespace plume
