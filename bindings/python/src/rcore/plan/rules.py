# rcore/plan/rules.py: symptom and remedy of each rule, by its id in POLICY_RULES.md, and the
# failure table.
"""What a user sees, and what helps."""
from __future__ import annotations

__all__ = ["FAILURES", "REMEDIES"]

_STOPS = "training stops at start-up with an assertion"
_NEVER = "the setting does nothing, or not what its name says"

#: id -> (symptom, fix). The cause is the library's own message.
REMEDIES: dict[str, tuple[str, str]] = {
    "TC1884": (_STOPS, "offload at most the layers of a virtual stage"),
    "TC1891": (_STOPS, "use --fine-grained-activation-offloading, which goes with pipelines"),
    "TC1896": (
        _STOPS,
        "recompute the cheap modules and offload the others with --offload-modules instead",
    ),
    "TC1902": (_STOPS, "set --recompute-granularity to selective or full"),
    "TC1909": (_STOPS, "set --recompute-method to uniform or block"),
    "TC1913": (_STOPS, "add --recompute-method uniform --recompute-num-layers 1"),
    "TC1919": (
        "training hangs (0 with uniform), or silently recomputes every layer",
        "set --recompute-num-layers between 1 and the layers of a virtual stage",
    ),
    "TC1926": (_STOPS, "drop --recompute-num-layers, or set --recompute-granularity full"),
    "TC1934": (
        _STOPS,
        "drop --distribute-saved-activations: sequence parallelism has split the inputs already",
    ),
    "TC1958": (_STOPS, "use one of the module names in the message"),
    "TC1964": (_STOPS, "add --moe-grouped-gemm, or drop moe_act"),
    "TC1969": (_STOPS, "drop mla_up_proj, or set --multi-latent-attention"),
    "TC1975": (_STOPS, "drop gdn_norm_out, or choose the attention variant that has it"),
    "TC1983": ("no saving at all, and slower", "drop core_attn"),
    "TC1991": (_STOPS, "drop shared_experts, or --moe-shared-expert-overlap"),
    "TC2002": (
        "NaN or diverging loss with FP8, where it is not refused",
        "use --fp8-recipe tensorwise, blockwise or mxfp8; or drop layernorm and moe_act",
    ),
    "TC2014b": (_STOPS, "drop --moe-layer-recompute: full covers it"),
    "TC2128": (_STOPS, "choose one of the two ways to offload"),
    "TC2131": (_STOPS, "name modules with --offload-modules"),
    "TC2143": (_STOPS, "use one of the module names in the message"),
    "TC2148": (_STOPS, "offload core_attn too, or neither"),
    "TC2165": (_STOPS, "recompute moe_act instead of moe, or do not offload inside moe"),
    "TC2800": (_STOPS, "drop the per-layer graphs, or --cpu-offloading"),
    "TC2855": (_STOPS, "capture the full iteration, or recompute modules instead of layers"),
    "TC2862": (
        _STOPS,
        "leave moe_router out of the captured scopes, or recompute moe_act instead of moe",
    ),
    "TC2878": (
        "wrong gradients: replay draws another dropout mask",
        "set --attention-dropout 0, or do not capture attention",
    ),
    "TC2886": (
        "wrong gradients: replay draws another dropout mask",
        "set --hidden-dropout 0, or do not capture it",
    ),
    "TC3021a": (
        _STOPS,
        "recompute modules instead of layers, or drop --overlap-moe-expert-parallel-comm",
    ),
    "TC3021d": (_STOPS, "recompute moe_act instead of moe"),
    "ARG601": (
        _STOPS,
        "use --recompute-activations, or --recompute-granularity and --recompute-method",
    ),
    "ARG1410a": (_STOPS, "drop --distribute-saved-activations: there is nobody to split over"),
    "ARG1410b": (
        "the configuration object takes it and ignores it: no saving",
        "use --recompute-granularity full with it",
    ),
    "ARG1425": (_STOPS, "drop --recompute-method"),
    "MTP1621a": (
        "a failure in the first step of the multi-token prediction layers",
        "set --recompute-num-layers 1",
    ),
    "MTP1621b": (_NEVER, "expect the multi-token prediction layers to be kept"),
    "TL481": (_NEVER, "do not capture the router where layernorm is recomputed"),
}

#: symptom -> (cause, what to do): what users of activation recomputation look up.
FAILURES: list[tuple[str, str, str]] = [
    (
        "out of memory although recompute is on",
        "what is replayed is live again in backward: uniform with N layers brings back N of them "
        "at once",
        "set --recompute-num-layers 1; look at the peak, not at the saved bytes: rcore explain",
    ),
    (
        "out of memory although recompute is on",
        "pipeline ranks hold different numbers of microbatches: the first rank holds most",
        "plan per rank (rcore plan), move layers off the first stage",
    ),
    (
        "out of memory by a few hundred MB",
        "fragmentation of the caching allocator",
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    ),
    (
        "no saving at all",
        "core_attn with fused attention: the scores were never kept, and the output is kept by "
        "the projection",
        "drop core_attn; drop norms and activations instead",
    ),
    (
        "no saving at all",
        "layernorm where the norm is fused into the linear; mlp on mixture-of-experts layers",
        "moe_act and mla_up_proj on such models; rcore explain shows bytes per module",
    ),
    (
        "no saving at all",
        "distribution with selective recomputation, or with sequence parallelism",
        "drop it: the first is ignored, the second has split the inputs already",
    ),
    (
        "slower than expected",
        "full replays the last GEMM too: 33 % of forward and backward where 25 to 26 % would do",
        "recompute norms and activations first (1 to 2 % for a third of the bytes)",
    ),
    (
        "slower than expected",
        "hundreds of small regions: 0.35 to 0.88 ms of host time each on small models",
        "recompute fewer, larger modules, or capture graphs",
    ),
    (
        "slower than expected",
        "offloading what does not fit under the compute of a step",
        "lower --activation-offload-fraction; rcore plan knows the window",
    ),
    (
        "NaN or divergence with FP8",
        "delayed scaling with layernorm or moe_act: the linear behind keeps a quantised copy of "
        "what was discarded",
        "another recipe, or other modules",
    ),
    (
        "NaN or divergence with FP8",
        "a normal checkpoint does not restore the autocast: core_attn is replayed in other "
        "precision",
        "drop core_attn under FP8 attention",
    ),
    (
        "gradients differ from a run without recompute",
        "dropout in captured graphs: the saved generator state is a live handle",
        "dropout 0 where a module is captured and recomputed",
    ),
    (
        "adapters do not train, loss looks fine",
        "full recompute with a frozen embedding: no input of the first layer needs a gradient",
        "make the embedding's output require a gradient",
    ),
    (
        "an assertion at start-up: rules that exclude each other",
        "full with overlap of expert-parallel communication; full with per-layer graphs; "
        "offloading with recompute",
        "rcore check FILE names the rule and the setting",
    ),
]
