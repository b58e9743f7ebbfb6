// Whose work a thread is doing: the names that a profile gives to what it measures.
//
// A network's modules open a scope when they are called. The tape remembers the scope of what it records, so
// that the gradient of an operation counts for the same module. A scope is two words in thread-local memory:
// no string is made until somebody asks for a name.
#pragma once
#include <string>

namespace plume {

class ScopeOwner {
 public:
  virtual std::string scope_name() const = 0;  // "features.3.block.0.0"; empty for a whole network

 protected:
  ~ScopeOwner() = default;
};

// A scope by a fixed name, for work that no module does ("loss", "optimizer").
class NamedScope : public ScopeOwner {
 public:
  explicit NamedScope(const char* name) : name_(name) {}
  std::string scope_name() const override { return name_; }

 private:
  const char* name_;
};

struct ScopeState {
  const ScopeOwner* owner = nullptr;  // null outside every scope
  bool backward = false;              // the tape is being run backwards
};
ScopeState current_scope();

// Sets the scope of this thread while alive. The owner must outlive it, and every tape recorded under it that
// is still to be run backwards while somebody observes.
class Scope {
 public:
  explicit Scope(const ScopeOwner& owner) : Scope(ScopeState{&owner, current_scope().backward}) {}
  explicit Scope(ScopeState state);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  ScopeState previous_;
};

}  // namespace plume
