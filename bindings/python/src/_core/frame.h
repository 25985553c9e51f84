// src/_core/frame.h: what a region is to autograd: the call to repeat, what its graph saved, and
// the replays of it.
//
// The forward graph stores a Holder for every saved tensor; holders own their Frame, the Frame
// borrows its holders, so a frame lives exactly as long as something in the graph may still ask for
// a value. A Run is one replay for one backward pass; the frame owns it, it borrows the frame. What
// the replay's own graph saves is a Token that finds its value in the Run: owning it would close
// the cycle value -> its node -> saved variable -> value.
#pragma once

#include <unordered_map>
#include <vector>

#include "core.h"
#include "devices.h"
#include "meter.h"
#include "pool.h"
#include "torch_api.h"

namespace rcpy {

// How a region is to be run; rcore.torch has the same numbers.
enum Flag : uint32_t {
  kPreserveRng = 1,
  kEarlyStop = 2,
  kCheckHeaders = 4,
  kMeasure = 8,    // extras.measure(tensor) is compared too
  kDiscards = 32,  // its outputs are not kept by what reads them in the open scope
  kByPolicy = 16,  // begun by apply(): inside another such region it is part of that one
  kDetach = 64,    // a replay's values are detached in sight of the dispatch modes, as torch's are
};

struct Run;
struct Token;

struct Holder {
  PyObject_HEAD Frame* frame;
  size_t index;
};

// One argument of the call.
struct Input {
  enum Kind : uint8_t {
    kPlain,      // any object
    kVersioned,  // a tensor that must not change until replay
    kSaved,      // torch's SavedTensor, so that hooks around the region see it
    kLinked,     // an output of the layer before, in the same recompute unit: nobody holds it
    kSame        // the very tensor that an earlier input is; the function may ask
  };
  Kind kind = kPlain;
  uint32_t output = 0;         // kLinked; kSame: that input
  int64_t version = 0;         // kVersioned, kLinked, kSaved
  PyObject* object = nullptr;  // kLinked: the Frame of that layer
};

// A tensor that a layer of a unit has returned, not held.
struct Returned {
  PyObject* weak;  // NULL where it was no tensor
  int64_t version;
};

// Objects whose vectors grew beyond this are not pooled.
constexpr size_t kPooledEntries = 512;

struct FrameState {
  Module* module = nullptr;
  rc_region* region = nullptr;
  bool replayed = false;   // the region is no longer EMPTY; another replay needs another one
  bool completed = false;  // the forward has returned
  bool begun_without_devices = false;  // the process had them, but had not used them yet
  uint32_t flags = 0;
  uint32_t measurement = 0;                        // of the meter, that its forward ran in
  PyObject *function = nullptr, *names = nullptr;  // names of the last inputs: keywords
  PyObject *environment = nullptr, *extras = nullptr, *measures = nullptr, *rng = nullptr;
  uint32_t n_records = 0;
  uint64_t saved_bytes = 0;
  size_t awaited = 0;  // Outputs that a graph may still ask for
  int64_t last_save_ns = 0, tail_ns = 0;
  Run *runs = nullptr, *current = nullptr;
};

struct FrameBody : FrameState {
  std::vector<Input> inputs;
  std::vector<Holder*> holders;  // borrowed; NULL once dead
  std::vector<TensorHeader> headers;
  std::vector<int64_t> shapes;
  std::unordered_map<PyObject*, Ref> counted;  // storages that freed_bytes has counted, weak
  std::vector<Returned> outputs;               // in a unit of several layers
  std::vector<PyObject*> records;  // tensors that record() copied, where the core cannot
  std::vector<Metered> metered;
  std::vector<DeviceState> devices;  // where the process uses any

  bool fits_pool() const { return holders.capacity() <= kPooledEntries && counted.empty(); }
  void reset() {
    static_cast<FrameState&>(*this) = FrameState();
    inputs.clear();
    holders.clear();
    headers.clear();
    shapes.clear();
    outputs.clear();
    records.clear();
    metered.clear();
  }
};

struct Frame {
  PyObject_HEAD FrameBody b;
};

// Of the values of a replay.
constexpr size_t kAll = SIZE_MAX;

struct RunState {
  Frame* frame = nullptr;
  Run* next = nullptr;
  long task = 0;
  PyObject* group = nullptr;
  bool shared = false;  // made by Region.replay(): values are handed out until released
  bool done = false, may_stop = false, keep_outputs = false, too_many = false, tolerant = false,
       stopped = false;
  unsigned long owner = 0;
  size_t count = 0, live = 0;
  size_t wanted = kAll;  // or the one value that this run is for, which it ends with
  uint32_t next_record = 0;
  bool parameter_changed = false;  // in place, since the forward
  bool renumbered = false;         // hooks gave back a copy of a parameter, which counts by itself
  PyObject* base = nullptr;        // borrowed: the Python frame that the replay was called from
  PyObject *mismatches = nullptr, *outputs = nullptr, *found = nullptr;
};

struct RunBody : RunState {
  std::vector<PyObject*> values;
  std::vector<int64_t> versions;  // of values, when they were saved
  std::vector<Token*> tokens;
  std::vector<Metered> metered, metered_outputs;  // of values, while somebody measures

  bool fits_pool() const { return values.capacity() <= kPooledEntries; }
  void reset() {
    static_cast<RunState&>(*this) = RunState();
    values.clear();
    versions.clear();
    tokens.clear();
    metered.clear();
    metered_outputs.clear();
  }
};

struct Run {
  PyObject_HEAD RunBody b;
};

struct Token {
  PyObject_HEAD Run* run;
  size_t index;
  PyObject* value;  // without its graph, where the run has none or has given its own away
  int64_t version;  // of the value, when it was saved
};

constexpr long kNoTask = -1, kGroupTask = -2, kSharedTask = -3;

extern PyTypeObject *frame_type, *holder_type, *run_type, *token_type;
bool make_frame_types(PyObject* module);

// frame.cc
Frame* new_frame();
Holder* new_holder(Frame* frame, size_t index);
Run* new_run(Frame* frame);  // linked into the frame, which owns it
// For one saved tensor of a replay: the run's value, or, owned, an alias of what the run has not.
Token* new_token(Run* run, size_t index, int64_t version, PyObject* value);
PyObject* run_take(Run* run,
                   size_t index);  // the value, owned; NULL, without an error, where there is none
void run_unlink(Frame* frame, Run* run);
void run_drop_outputs(Run* run);
void drop_finished_runs(Frame* frame);
int64_t now_ns();

// active.cc: the regions whose function is running on this thread, outermost first.
struct Active {
  Frame* frame;
  Run* run;  // NULL in forward
};
std::vector<Active>& active();
class Activate {
 public:
  Activate(Frame* frame, Run* run) : stack_(active()) { stack_.push_back({frame, run}); }
  ~Activate() { stack_.pop_back(); }
  Activate(const Activate&) = delete;
  Activate& operator=(const Activate&) = delete;

 private:
  std::vector<Active>& stack_;
};
PyObject* record(PyObject* self, PyObject* tensor);
PyObject* is_replaying(PyObject* self, PyObject* nothing);
PyObject* collect(PyObject* self, PyObject* list);
void collected(Frame* frame);

// trace.cc: what happened when, for those who watch.
bool is_traced();
void trace_event(const Frame* frame, const char* what, int64_t begin_ns);
PyObject* set_trace(PyObject* self, PyObject* list);

// modules.cc: true where no module that the call is made with, or has at hand, has a buffer.
// `keywords` may be NULL.
bool has_no_buffers(PyObject* function, PyObject* arguments, PyObject* keywords);
bool make_module_functions(PyObject* module);

// forward.cc
PyObject* run_region(PyObject* self, PyObject* const* arguments, Py_ssize_t n);

// discard.cc
bool make_scope_types(PyObject* module);
void discard_outputs(Frame* frame, PyObject* result, PyObject* arguments, PyObject* keywords);

// compare.cc: a value against what the forward knew of it; all that a replay made, in torch's
// words; and an error of extras in place of one that says less. False with an error set.
bool check_value(Run* run, size_t index, PyObject* tensor, int64_t version);
bool check_run(Frame* frame, Run* run);
void explain(const FrameBody& b, PyObject* mismatches);

// tail.cc: whether to end a replay that has made all by an exception.
bool stop_pays(Run* run, size_t last);  // `last`: the index of the last value
// A region hands its inputs to the hooks around it: its function is still to run.
extern thread_local bool region_begins;

// replay.cc
PyObject* unpack(PyObject* self, PyObject* holder);
// Makes the values of a frame available to one backward pass; NULL with an error set.
Run* start_run(Frame* frame, long task, PyObject* group, bool keep_outputs, size_t wanted = kAll);
// The frame's output as a replay of the running backward makes it; shared by all who ask for it.
Ref replayed_output(Frame* frame, size_t output);
PyObject* raise_too_early(const char* what);

}  // namespace rcpy
