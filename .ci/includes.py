# .ci/includes.py: includes flow one way:
# bindings, examples, abi_tests -> rcore.h -> src -> kernels' arithmetic.
"""usage: includes.py ROOT         checks every C, C++ and CUDA file below ROOT
       includes.py --self-test  shows that each rule sees a file that breaks it"""
import os
import re
import sys
import tempfile

SOURCE = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)

# (files, includes that they must not have, except in, why)
RULES = (
    (r"^(bindings|examples|abi_tests)/", r"^(\.\./)*(src|kernels)/|/(src|kernels)/", None,
     "what embeds the library sees rcore.h only"),
    (r"^include/", r"^(src|kernels|dlpack|nlohmann)/|^cuda", None,
     "the public headers stand alone"),
    (r"^(src|kernels)/", r"^(bindings|examples|abi_tests)/", None,
     "the library knows nothing of those who embed it"),
    (r"^src/(policy|plan)/|^src/storage/pack", r"^(cuda|cublas|nccl|hip)|^dlpack/", None,
     "planning needs no device and no tensor"),
    (r"^(src|kernels)/", r"^dlpack/", r"^src/storage/tensor\.cc$", "one file reads DLPack"),
    (r"^(src|kernels)/", r"^cuda|^cublas|^cub/", r"_cuda\.(cc|h)$|\.cuh?$",
     "CUDA stays in *_cuda.* and .cu files"),
    (r"^(src|kernels)/", r"^nccl", r"_nccl\.cc$", "one file knows NCCL"),
    (r"^kernels/", r"^src/(?!status\.h$)", None, "kernels are below the library"),
    (r"^src/(policy|plan)/", r"^src/(region|storage|device|comm|trace|abi)/", None,
     "a policy is below the main path"),
    (r"^src/device/", r"^src/(region|storage|policy|plan|comm|trace|abi)/", None,
     "devices are below everything"),
)
TEST = re.compile(r"_(test|bench|fuzz|tool)\.(c|cc)$")  # tests may look anywhere inside


def breaks(root):
    found, seen = [], 0
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith((".", "build"))]
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), root)
            if not name.endswith(SOURCE):
                continue
            seen += 1
            with open(os.path.join(root, path), errors="replace") as f:
                includes = INCLUDE.findall(f.read())
            for files, forbidden, allowed, why in RULES:
                if not re.search(files, path) or (allowed and re.search(allowed, path)):
                    continue
                if files.startswith(("^(src", "^src", "^kernels")) and TEST.search(path):
                    continue
                found += ["%s includes %s: %s" % (path, i, why) for i in includes
                          if re.search(forbidden, i)]
    return found, seen


def self_test():
    wrong = (("examples/a/main.c", "../../src/status.h"), ("abi_tests/a.cc", "src/abi/abi.h"),
             ("bindings/python/a.cc", "kernels/gelu.h"),
             ("include/rcore/rcore.h", "dlpack/dlpack.h"), ("src/a.cc", "examples/a.h"),
             ("src/policy/a.h", "cuda_runtime.h"), ("src/storage/packer.cc", "dlpack/dlpack.h"),
             ("src/region/a.cc", "dlpack/dlpack.h"), ("kernels/cpu/a.cc", "cuda_fp16.h"),
             ("src/comm/a.cc", "nccl.h"), ("kernels/a.h", "src/region/region.h"),
             ("src/policy/a.cc", "src/region/region.h"),
             ("src/device/a.cc", "src/storage/storage.h"))
    right = (("src/storage/tensor.cc", "dlpack/dlpack.h"), ("kernels/cuda/a.cu", "cuda_fp16.h"),
             ("kernels/a.cc", "src/status.h"), ("examples/a/main.c", "rcore/rcore.h"),
             ("src/comm/comm_nccl.cc", "nccl.h"), ("src/policy/a_test.cc", "src/region/region.h"))
    for cases, wanted in ((wrong, True), (right, False)):
        for path, include in cases:
            with tempfile.TemporaryDirectory() as root:
                os.makedirs(os.path.dirname(os.path.join(root, path)))
                with open(os.path.join(root, path), "w") as f:
                    f.write('#include "%s"\n' % include)
                found, _ = breaks(root)
                if bool(found) != wanted:
                    sys.exit("%s with %s: %s" % (path, include, found or "not seen"))
    print("%d breaks seen, %d good files passed" % (len(wrong), len(right)))


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test()
        sys.exit(0)
    found, seen = breaks(sys.argv[1])
    print("\n".join([*found, "%d files, %d includes against the flow" % (seen, len(found))]))
    sys.exit(1 if found or seen < 10 else 0)
