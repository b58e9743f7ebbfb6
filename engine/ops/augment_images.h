// augment_images: carries out the plans of a batch (engine/math/augment_plan.h): crop, antialiased resize,
// flip, image operations equal to Pillow's, normalisation and erasing, from bytes to the images that a
// network takes. The same on every device, to the last bit.
#pragma once
#include "engine/core/kernel_slot.h"
#include "engine/math/augment_plan.h"

namespace plume {

// images: floating [n, batch.height, batch.width, 3], on the context's device, as are the batch's tensors.
using AugmentImages = void(Context&, const AugmentBatch&, Tensor& images);
extern KernelSlot<AugmentImages> augment_images_forward;

// Allocates the images on `device` and brings to it what of the batch is elsewhere. Throws usage when the
// batch's tensors do not fit each other.
Tensor augment_images(const AugmentBatch& batch, Device device, DType dtype = DType::f32);

}  // namespace plume
