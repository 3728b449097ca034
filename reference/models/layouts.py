"""One LLaVA-1.5 model under the names of each layout, from the in-memory names of transformers 4.57.

In memory: `model.language_model.…`, `model.vision_tower.vision_model.…`, `model.multi_modal_projector.…`, `lm_head.…`.
"""

TOWER = "model.vision_tower.vision_model."


def _rename(tensors, rules):
    renamed = {}
    for name, tensor in tensors.items():
        for old, new in rules:
            if name.startswith(old):
                renamed[new + name[len(old) :]] = tensor
                break
        else:
            raise KeyError(name)
    return renamed


def published(tensors):
    """The names of the published Hugging Face checkpoints (llava-hf)."""
    return _rename(
        tensors,
        [
            ("model.language_model.", "language_model.model."),
            ("lm_head.", "language_model.lm_head."),
            ("model.vision_tower.", "vision_tower."),
            ("model.multi_modal_projector.", "multi_modal_projector."),
            ("model.image_newline", "image_newline"),
        ],
    )


def flat_tower(tensors):
    """What transformers 5.23 writes for a model made there: published names, the tower without `vision_model`."""
    return {name.replace("vision_tower.vision_model.", "vision_tower."): tensor for name, tensor in published(tensors).items()}


def original(tensors, tower_prefix=None):
    """The original LLaVA names; the tower is left out (a folder of its own) unless a prefix is given."""
    language = {name: tensor for name, tensor in tensors.items() if not name.startswith(TOWER)}
    renamed = _rename(
        language,
        [
            ("model.language_model.", "model."),
            ("lm_head.", "lm_head."),
            ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
            ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ],
    )
    if tower_prefix:
        renamed |= {tower_prefix + name: tensor for name, tensor in tower(tensors).items()}
    return renamed


def tower(tensors):
    """The vision tower alone, as a CLIPVisionModel file."""
    return {"vision_model." + name[len(TOWER) :]: tensor for name, tensor in tensors.items() if name.startswith(TOWER)}


def original_config(text, tower_name, hidden):
    """config.json of an original LLaVA-1.5 checkpoint: the language model's keys beside the `mm_` ones."""
    return text | {
        "architectures": ["LlavaLlamaForCausalLM"],
        "freeze_mm_mlp_adapter": False,
        "image_aspect_ratio": "pad",
        "image_grid_pinpoints": None,
        "mm_hidden_size": hidden,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": tower_name,
        "model_type": "llava",
        "tune_mm_mlp_adapter": False,
        "use_mm_proj": True,
    }


def version_5_config(config):
    """The same configuration as transformers 5 writes it: `dtype`, and rotary settings in `rope_parameters`."""
    text = {key: value for key, value in config["text_config"].items() if key not in ("rope_theta", "rope_scaling")}
    text["rope_parameters"] = {"rope_theta": config["text_config"]["rope_theta"], "rope_type": "default"}
    text["dtype"] = text.pop("torch_dtype")
    text["head_dim"] = text["hidden_size"] // text["num_attention_heads"]
    rest = {key: value for key, value in config.items() if key not in ("torch_dtype", "text_config")}
    return rest | {"dtype": config["torch_dtype"], "text_config": text, "transformers_version": "5.23.0"}
