// What a device has to say about its choices, for those who ask where the time goes: lines of text, each once
// per process however often it is said.
#pragma once
#include <string>
#include <vector>

namespace plume {

void note(const std::string& line);  // from any thread
std::vector<std::string> notes();    // in the order first said

}  // namespace plume
