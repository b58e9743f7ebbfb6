// Which variants of the kernel slots (kernel_slot.h) a process runs.
#pragma once
#include <string_view>

namespace plume {

// Several of these, separated by commas; the later ones count:
//   slot=name  forces a variant (force_variants)
//   first      every slot runs the first of its ladder where it fits, whether it pays or not: all fast paths
//   last       every slot runs the last of its ladder where it fits, which is the simplest
// `first` and `last` concern the devices that are open. Throws usage on anything else.
void choose_variants(std::string_view choices);

void choose_variants_of_environment();  // what PLUME_VARIANTS says

// Is the variant one of a vendor's library? Its name begins with the library's.
bool is_of_vendor(std::string_view variant);

}  // namespace plume
