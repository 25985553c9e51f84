// src/storage/pack_main.cc: rcore-pack, packs CSV instances and prints height against bound.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "src/storage/minimalloc_csv.h"
#include "src/storage/packer.h"
#include "src/storage/validator.h"

namespace {

namespace fs = std::filesystem;

constexpr int kBadInput = 2;

struct Arguments {
  std::vector<std::string> inputs;
  std::string output;
  rc::PackOptions options;
};

int complain(const std::string& line) {
  std::fprintf(stderr, "rcore-pack: %s\n", line.c_str());
  return kBadInput;
}

// Folders become their *.csv files in order of name. Returns an error line or nothing.
std::string expand(const std::vector<std::string>& inputs, std::vector<std::string>& files) {
  for (const std::string& input : inputs) {
    std::error_code error;
    if (!fs::is_directory(input, error)) {
      files.push_back(input);
      continue;
    }
    std::vector<std::string> found;
    for (const fs::directory_entry& entry : fs::directory_iterator(input, error)) {
      if (entry.path().extension() == ".csv") found.push_back(entry.path().string());
    }
    if (error) return input + ": " + error.message();
    if (found.empty()) return input + ": there is no .csv file in this folder";
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return "";
}

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  return bool(file);
}

// Returns whether the packing is legal.
bool print_row(const rc::MinimallocInstance& instance, const rc::Packing& packing) {
  const std::string violation =
      rc::packing_violation(instance.problem, packing.offsets, packing.height);
  const double ratio =
      packing.lower_bound == 0 ? 1 : double(packing.height) / double(packing.lower_bound);
  std::printf("%-24s %8zu %14llu %14llu %9.5f %7s %9llu %9.3f  %s\n",
              fs::path(instance.name).filename().c_str(), instance.problem.buffers.size(),
              static_cast<unsigned long long>(packing.lower_bound),
              static_cast<unsigned long long>(packing.height), ratio,
              packing.proven_optimal ? "yes" : "no",
              static_cast<unsigned long long>(packing.statistics.nodes), packing.statistics.seconds,
              violation.empty() ? "legal" : violation.c_str());
  std::fflush(stdout);
  return violation.empty();
}

int run(const Arguments& arguments) {
  std::vector<std::string> files;
  if (const std::string error = expand(arguments.inputs, files); !error.empty()) {
    return complain(error);
  }
  if (!arguments.output.empty() && files.size() != 1) {
    return complain("--output needs exactly one instance, there are " +
                    std::to_string(files.size()));
  }
  std::vector<rc::MinimallocInstance> instances(files.size());
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string error = rc::read_minimalloc_file(files[i], instances[i]);
    if (!error.empty()) return complain(error);
  }
  std::printf("%-24s %8s %14s %14s %9s %7s %9s %9s  %s\n", "instance", "buffers", "bound", "height",
              "ratio", "proven", "nodes", "seconds", "validator");
  bool legal = true;
  double seconds = 0;
  for (const rc::MinimallocInstance& instance : instances) {
    const rc::Packing packing = rc::pack(instance.problem, arguments.options);
    legal = print_row(instance, packing) && legal;
    seconds += packing.statistics.seconds;
    if (arguments.output.empty()) continue;
    if (!write_file(arguments.output, rc::format_minimalloc_csv(instance, packing.offsets))) {
      return complain(arguments.output + ": cannot be written");
    }
  }
  std::printf("%zu instances, %.3f s\n", instances.size(), seconds);
  return legal ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Packs buffers with known live intervals into one arena of least height."};
  Arguments arguments;
  app.add_option("inputs", arguments.inputs,
                 "CSV files (id,lower,upper,size[,alignment,gaps]) or folders")
      ->required();
  app.add_option("--time-limit", arguments.options.time_limit, "seconds per instance")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--node-limit", arguments.options.node_limit, "placements of the exact search")
      ->capture_default_str();
  app.add_option("--enough", arguments.options.enough, "stop at this height; 0: the least height")
      ->capture_default_str();
  app.add_option("--seed", arguments.options.seed, "of the improvement and the search")
      ->capture_default_str();
  app.add_option("--output", arguments.output, "writes the instance with its offsets");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return complain(error.what());
  }
  return run(arguments);
}
