"""What vLLM needs to serve a PanoVLM without remote code: an entry point of `vllm.general_plugins`.

vLLM calls `register` in each of its processes. The model runs on vLLM's Transformers backend: the
vision encoder, resampler and projection as they are here, the language model with vLLM's attention
and cache.
"""

from panovlm.model.modeling import PanoVLMForConditionalGeneration, PanoVLMModel

BACKEND = "vllm.model_executor.models.transformers:TransformersMultiModalForCausalLM"
HEAD = r"^lm_head"


def register() -> None:
    """Make PanoVLM known to vLLM; to call it again changes nothing.

    The Auto classes know the configuration, the processor and the model since panovlm was imported.
    """
    from vllm import ModelRegistry

    # vLLM leaves out what the base model ignores in a checkpoint. Alone it ignores the LM head, but
    # here vLLM loads that beside it.
    ignored = PanoVLMModel._keys_to_ignore_on_load_unexpected
    PanoVLMModel._keys_to_ignore_on_load_unexpected = [key for key in ignored if key != HEAD]
    architecture = PanoVLMForConditionalGeneration.__name__
    if architecture not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(architecture, BACKEND)
