// src/_core/active.cc: which regions run on this thread, and the small results that a replay takes
// from its forward.
#include <cstring>
#include <string>

#include "frame.h"

namespace rcpy {

std::vector<Active>& active() {
  thread_local std::vector<Active> stack;
  return stack;
}

namespace {

thread_local PyObject* collector = nullptr;

constexpr uint32_t kFirstRecord = kSavedSlot + 1;

bool fill_spec(PyObject* tensor, const DLTensor& t, rc_tensor_spec* spec) {
  const void* data;
  uint64_t bytes;
  if (!cpu_bytes(tensor, &data, &bytes)) return false;
  *spec = rc_tensor_spec_init();
  spec->data = const_cast<void*>(data);
  spec->dtype_code = t.dtype.code;
  spec->dtype_bits = t.dtype.bits;
  spec->dtype_lanes = t.dtype.lanes;
  spec->ndim = t.ndim;
  spec->shape = t.shape;
  return true;
}

PyObject* raise_other_record(const FrameBody& b, const char* what) {
  return PyErr_Format(torch_api.checkpoint_error,
                      "rcore.torch.record(): the replay of module '%U' asks for %s; record the "
                      "same tensors, in the "
                      "same order, each time the region runs",
                      b.module->name, what);
}

// Copies what `tensor` holds into the frame's region, or beside it where the core has no such
// memory.
bool append_record(Frame* frame, PyObject* tensor) {
  FrameBody& b = frame->b;
  DLTensor t;
  rc_tensor_spec spec;
  PyObject* copy = nullptr;
  if (borrow_dltensor(tensor, &t) && fill_spec(tensor, t, &spec)) {
    const std::string name = "record" + std::to_string(b.n_records);
    rc_slot_desc slot = rc_slot_desc_init();
    slot.name = name.c_str();
    slot.role = RC_ROLE_DECISION;
    uint32_t index = 0;
    rc_status status = rc_region_slot_add(b.region, &slot, &index);
    if (status >= 0) status = rc_region_decide(b.region, index, &spec, nullptr);
    if (status < 0) {
      raise_status(status);
      return false;
    }
  } else {
    const Ref plain(PyObject_CallMethod(tensor, "detach", nullptr));
    copy = plain ? PyObject_CallMethod(plain.get(), "clone", nullptr) : nullptr;
    if (!copy) return false;
  }
  b.records.push_back(copy);
  ++b.n_records;
  return true;
}

// The slot of the core that holds record `index`: only those without a copy of their own have one.
uint32_t slot_of(const FrameBody& b, uint32_t index) {
  uint32_t slot = kFirstRecord;
  for (uint32_t i = 0; i < index; ++i) slot += b.records[i] == nullptr;
  return slot;
}

// Overwrites the content of `tensor` with the record: its place in the graph stays, its value is
// the forward's.
PyObject* replay_record(Run* run, PyObject* tensor) {
  if (!run->b.frame) return Py_NewRef(tensor);
  FrameBody& b = run->b.frame->b;
  const uint32_t index = run->b.next_record++;
  if (index >= b.n_records && !b.completed)
    return Py_NewRef(tensor);  // the forward is not there yet
  if (index >= b.n_records) return raise_other_record(b, "more records than the forward made");
  if (PyObject* copy = b.records[index]) {
    const Ref plain(PyObject_CallMethod(tensor, "detach", nullptr));
    const Ref done(plain ? PyObject_CallMethod(plain.get(), "copy_", "O", copy) : nullptr);
    return done ? Py_NewRef(tensor) : nullptr;
  }
  rc_tensor_spec kept = rc_tensor_spec_init();
  const rc_status status = rc_region_view(b.region, slot_of(b, index), nullptr, &kept);
  if (status < 0) return raise_status(status);
  DLTensor t;
  rc_tensor_spec spec;
  if (!borrow_dltensor(tensor, &t) || !fill_spec(tensor, t, &spec) || t.ndim != kept.ndim ||
      t.dtype.code != kept.dtype_code || t.dtype.bits != kept.dtype_bits ||
      std::memcmp(t.shape, kept.shape, sizeof(int64_t) * static_cast<size_t>(t.ndim)) != 0)
    return raise_other_record(b, "a tensor of another shape or dtype than the forward recorded");
  std::memcpy(spec.data, kept.data, kept.bytes);
  return Py_NewRef(tensor);
}

}  // namespace

PyObject* record(PyObject*, PyObject* tensor) {
  std::vector<Active>& stack = active();
  size_t first = stack.size();
  while (first > 0 && !stack[first - 1].run)
    --first;  // regions above the innermost replay run for the first time
  const Ref contiguous(PyObject_CallMethod(tensor, "contiguous", nullptr));
  if (!contiguous) return nullptr;
  Ref result = Ref::borrow(contiguous.get());
  if (first > 0) result = Ref(replay_record(stack[first - 1].run, contiguous.get()));
  if (!result) return nullptr;
  for (size_t i = first; i < stack.size(); ++i)
    if (!append_record(stack[i].frame, result.get())) return nullptr;
  return result.release();
}

PyObject* is_replaying(PyObject*, PyObject*) {
  for (const Active& a : active())
    if (a.run) Py_RETURN_TRUE;
  Py_RETURN_FALSE;
}

PyObject* collect(PyObject*, PyObject* list) {
  if (list != Py_None && !PyList_Check(list)) {
    PyErr_SetString(PyExc_TypeError, "collect() needs a list or None");
    return nullptr;
  }
  PyObject* previous = collector ? collector : Py_NewRef(Py_None);
  collector = list == Py_None ? nullptr : Py_NewRef(list);
  return previous;
}

void collected(Frame* frame) {
  if (collector && PyList_Append(collector, reinterpret_cast<PyObject*>(frame)) < 0) PyErr_Clear();
}

}  // namespace rcpy
