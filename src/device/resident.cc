// src/device/resident.cc: /proc/self read and reset.
#include "src/device/resident.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace rc {
namespace {

void explain(std::string* reason, const char* path) {
  if (reason) *reason = std::string(path) + ": " + std::strerror(errno);
}

// The value in bytes of the line "key:   123 kB".
std::optional<uint64_t> kilobytes(const char* path, const char* key, std::string* reason) {
  FILE* file = std::fopen(path, "re");
  if (!file) {
    explain(reason, path);
    return std::nullopt;
  }
  const size_t length = std::strlen(key);
  std::optional<uint64_t> found;
  char line[256];
  while (!found && std::fgets(line, sizeof line, file)) {
    unsigned long long value = 0;
    if (std::strncmp(line, key, length) == 0 && line[length] == ':' &&
        std::sscanf(line + length + 1, "%llu kB", &value) == 1) {
      found = value * 1024;
    }
  }
  std::fclose(file);
  if (!found && reason) *reason = std::string(path) + " has no " + key;
  return found;
}

}  // namespace

std::optional<uint64_t> resident_bytes(std::string* reason) {
  return kilobytes("/proc/self/smaps_rollup", "Rss", reason);
}

std::optional<Resident> resident_mark(std::string* reason) {
  const auto now = kilobytes("/proc/self/status", "VmRSS", reason);
  const auto high = kilobytes("/proc/self/status", "VmHWM", reason);
  if (!now || !high) return std::nullopt;
  return Resident{*now, *high};
}

bool reset_resident_mark(std::string* reason) {
  const char* path = "/proc/self/clear_refs";
  FILE* file = std::fopen(path, "we");
  if (!file) {
    explain(reason, path);
    return false;
  }
  const bool wrote = std::fputs("5", file) >= 0;
  const bool closed = std::fclose(file) == 0;  // the write happens here
  if (!(wrote && closed)) explain(reason, path);
  return wrote && closed;
}

}  // namespace rc
