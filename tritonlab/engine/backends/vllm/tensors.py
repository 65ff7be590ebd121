"""The tensors of the vLLM backend's contract, and `auto_complete_config` for files that leave them out.

The names, types and shapes are those of NVIDIA's vllm backend (r25.06), so that a client cannot tell the two apart.
"""

INPUTS = (
    # name, data type, dims, optional
    ("text_input", "TYPE_STRING", [1], False),
    ("image", "TYPE_STRING", [-1], True),
    ("stream", "TYPE_BOOL", [1], True),
    ("sampling_parameters", "TYPE_STRING", [1], True),
    ("exclude_input_in_output", "TYPE_BOOL", [1], True),
    ("return_finish_reason", "TYPE_BOOL", [1], True),
    ("return_cumulative_logprob", "TYPE_BOOL", [1], True),
    ("return_logprobs", "TYPE_BOOL", [1], True),
    ("return_num_input_tokens", "TYPE_BOOL", [1], True),
    ("return_num_output_tokens", "TYPE_BOOL", [1], True),
)
OUTPUTS = (
    ("text_output", "TYPE_STRING", [-1]),
    ("finish_reason", "TYPE_STRING", [-1]),
    ("cumulative_logprob", "TYPE_FP32", [-1]),
    ("logprobs", "TYPE_STRING", [-1]),
    ("num_input_tokens", "TYPE_UINT32", [1]),
    ("num_output_tokens", "TYPE_UINT32", [-1]),
)


def complete(config):
    """Add to a `ModelConfig` of the Python backend what its config.pbtxt leaves out."""
    given = config.as_dict()
    named = {tensor["name"] for tensor in (*given["input"], *given["output"])}
    for name, data_type, dims, optional in INPUTS:
        if name not in named:
            config.add_input({"name": name, "data_type": data_type, "dims": dims, "optional": optional})
    for name, data_type, dims in OUTPUTS:
        if name not in named:
            config.add_output({"name": name, "data_type": data_type, "dims": dims})
    try:
        config.set_model_transaction_policy({"decoupled": True})
    except ValueError:
        raise ValueError(
            f"vLLM backend model '{given['name']}' must be decoupled: write "
            "model_transaction_policy { decoupled: true } into its config.pbtxt"
        ) from None
    config.set_max_batch_size(0)
    return config
