#include "engine/core/scope.h"

namespace plume {
namespace {

constinit thread_local ScopeState state_of_thread;

}  // namespace

ScopeState current_scope() { return state_of_thread; }

Scope::Scope(ScopeState state) : previous_(state_of_thread) { state_of_thread = state; }
Scope::~Scope() { state_of_thread = previous_; }

}  // namespace plume
