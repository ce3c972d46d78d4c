"""Sizes from text, named models and Hugging Face configs."""

import json
import re

import pytest

from accelsim.errors import InputError
from accelsim.ir.problem import bind, relevant, with_parts
from accelsim.load import catalog
from accelsim.load.cascade import load_cascade
from accelsim.load.workload import MODELS, length, ranks_of_config, shape_from_text, workload


def faults(call, *args, **keywords):
    with pytest.raises(InputError) as caught:
        call(*args, **keywords)
    return [(f.message, f.allowed) for f in caught.value.faults]


# -- lengths and shapes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("1K", 1024), ("64k", 65536), ("1M", 1048576), ("16Ki", 16384), (" 7 ", 7),
     (197, 197)],
)  # fmt: skip
def test_length(text, size):
    assert length(text) == size


@pytest.mark.parametrize("text", ["", "0", "-4", "4.5", "1e3", "K", "4KB", "four", "0K", True, "१"])
def test_no_length(text):
    assert faults(length, text) == [
        (f"{text!r} is no size", "a positive whole number, K is 1024: 4096, 4K, 1M")
    ]


def test_shape():
    assert shape_from_text("B=64,H=12, M = 4K") == {"B": 64, "H": 12, "M": 4096}


def test_every_fault_of_a_shape_with_its_column():
    with pytest.raises(InputError) as caught:
        shape_from_text("B=64,h=12,M=x, B=2,,P")
    assert str(caught.value).splitlines() == [
        "--shape:1:6: 'h=12' is no size of a rank",
        "  B=64,h=12,M=x, B=2,,P",
        "       ^",
        "  allowed: RANK=SIZE, ranks upper case: B=64,H=12,M=4K",
        "--shape:1:13: 'x' is no size",
        "  B=64,h=12,M=x, B=2,,P",
        "              ^",
        "  allowed: a positive whole number, K is 1024: 4096, 4K, 1M",
        "--shape:1:16: B is given twice",
        "  B=64,h=12,M=x, B=2,,P",
        "                 ^",
        "  allowed: one size for each rank",
        "--shape:1:20: '' is no size of a rank",
        "  B=64,h=12,M=x, B=2,,P",
        "                     ^",
        "  allowed: RANK=SIZE, ranks upper case: B=64,H=12,M=4K",
        "--shape:1:21: 'P' is no size of a rank",
        "  B=64,h=12,M=x, B=2,,P",
        "                      ^",
        "  allowed: RANK=SIZE, ranks upper case: B=64,H=12,M=4K",
    ]


# -- models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "ranks"),
    [
        ("BERT", {"H": 12, "E": 64, "F": 64, "D": 768, "S": 3072}),
        ("TrXL", {"H": 16, "E": 64, "F": 64, "D": 1024, "S": 4096}),
        ("T5-small", {"H": 8, "E": 64, "F": 64, "D": 512, "S": 2048}),
        ("XLM", {"H": 16, "E": 128, "F": 128, "D": 2048, "S": 8192}),
    ],
)
def test_models_of_fusemax(model, ranks):
    expected = {"B": 64, **ranks, "HK": ranks["H"], "P": 65536, "M": 65536}
    assert workload(model, "64K") == expected


def test_models_are_consistent():
    for name, model in MODELS.items():
        ranks = model.ranks
        assert {"B", "H", "E", "F", "D", "S"} <= ranks.keys(), name
        assert ranks["H"] % ranks.get("HK", 1) == 0, name
        assert ranks.get("P") == ranks.get("M"), name
        assert re.search(r"(19|20)\d\d|config\.json", model.source), name
        if not name.startswith(("T5", "GPT-3")):
            assert ranks["D"] == ranks["H"] * ranks["E"], name


@pytest.mark.parametrize("model", MODELS)
def test_every_model_binds_every_attention(model):
    for cascade in ("attention-3pass", "attention-1pass", "attention-gqa", "encoder-linear-layers"):
        text = load_cascade(cascade)
        fixed = "P" in MODELS[model].ranks
        sizes = relevant(text, workload(model, None if fixed else "4K"))
        assert bind(text, with_parts(text, sizes)).extent("H") == MODELS[model].ranks["H"]


def test_the_models_file_is_shipped():
    assert (catalog.folder("arch_configs") / "models" / "models.yaml").is_file()


def test_a_model_that_fixes_its_positions():
    assert workload("DeiT-S")["P"] == 197
    assert workload("swin-t-stage3")["B"] == 4  # windows of 7x7 in 14x14
    assert workload("HunyuanVideo")["M"] == 33 * 45 * 80 + 256
    assert workload("FLUX.1-dev", 2048)["M"] == 2048


def test_shape_overrides_model_and_length():
    sizes = workload("Llama-3.1-8B", "8K", "B=4,P=1")
    assert (sizes["B"], sizes["P"], sizes["M"], sizes["HK"]) == (4, 1, 8192, 8)
    assert workload("BERT", 1024, {"H": 3})["HK"] == 3
    assert "HK" not in workload("BERT", 1024, {"G": 4})
    assert workload("BERT", shape="P=2,M=6")["M"] == 6


def test_shape_and_length_alone():
    assert workload(shape="B=2,M=4") == {"B": 2, "M": 4}
    assert workload(seq="2K", shape={"B": 1, "M": "1K"}) == {"P": 2048, "M": 1024, "B": 1}


def test_what_a_workload_refuses():
    assert faults(workload) == [
        ("no workload is given", "a model and a length, a config, or a shape")
    ]
    assert faults(workload, "BERT") == [
        (
            "BERT has no sequence length of its own",
            "a length, such as --seq 4096, or P and M in the shape",
        )
    ]
    assert faults(workload, "BERT", 1, config="x") == [
        ("both a model and a config are given", "one of them")
    ]
    ((message, allowed),) = faults(workload, "BRET", 1024)
    assert message == "no model is called 'BRET'"
    assert allowed.startswith("BERT? (BERT, ")
    assert faults(workload, shape={"B": 0, "M": -1}) == [
        ("0 is no size", "a positive whole number, K is 1024: 4096, 4K, 1M"),
        ("-1 is no size", "a positive whole number, K is 1024: 4096, 4K, 1M"),
    ]


# -- Hugging Face configs --------------------------------------------------------------------

CONFIGS = {
    "llama": (
        {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
         "intermediate_size": 14336, "max_position_embeddings": 131072, "head_dim": None},
        {"D": 4096, "H": 32, "HK": 8, "E": 128, "F": 128, "S": 14336},
    ),
    "gpt2": (
        {"n_embd": 768, "n_head": 12, "n_inner": None},
        {"D": 768, "H": 12, "HK": 12, "E": 64, "F": 64, "S": 3072},
    ),
    "t5": (
        {"d_model": 512, "num_heads": 8, "d_kv": 64, "d_ff": 2048},
        {"D": 512, "H": 8, "HK": 8, "E": 64, "F": 64, "S": 2048},
    ),
    "gemma: heads are wider than D / H": (
        {"hidden_size": 2304, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "intermediate_size": 9216, "sliding_window": 4096},
        {"D": 2304, "H": 8, "HK": 4, "E": 256, "F": 256, "S": 9216, "W": 4096},
    ),
    "qwen: a window that is not used": (
        {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
         "intermediate_size": 18944, "sliding_window": 131072, "use_sliding_window": False},
        {"D": 3584, "H": 28, "HK": 4, "E": 128, "F": 128, "S": 18944},
    ),
    "falcon: one key head": (
        {"hidden_size": 4544, "num_attention_heads": 71, "multi_query": True},
        {"D": 4544, "H": 71, "HK": 1, "E": 64, "F": 64, "S": 18176},
    ),
    "falcon: its code takes one key head whatever is listed": (
        {"hidden_size": 4544, "num_attention_heads": 71, "num_kv_heads": 71, "multi_query": True,
         "new_decoder_architecture": False},
        {"D": 4544, "H": 71, "HK": 1, "E": 64, "F": 64, "S": 18176},
    ),
    "falcon, new decoder": (
        {"hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8, "multi_query": True,
         "new_decoder_architecture": True},
        {"D": 8192, "H": 128, "HK": 8, "E": 64, "F": 64, "S": 32768},
    ),
    "chatglm: groups": (
        {"hidden_size": 4096, "num_attention_heads": 32, "multi_query_attention": True,
         "multi_query_group_num": 2, "kv_channels": 128, "ffn_hidden_size": 13696},
        {"D": 4096, "H": 32, "HK": 2, "E": 128, "F": 128, "S": 13696},
    ),
    "dbrx: parts of the config": (
        {"d_model": 6144, "n_heads": 48, "attn_config": {"kv_n_heads": 8},
         "ffn_config": {"ffn_hidden_size": 10752}},
        {"D": 6144, "H": 48, "HK": 8, "E": 128, "F": 128, "S": 10752},
    ),
    "mpt: a ratio": (
        {"d_model": 4096, "n_heads": 32, "expansion_ratio": 3, "attn_config": {}},
        {"D": 4096, "H": 32, "HK": 32, "E": 128, "F": 128, "S": 12288},
    ),
    "bart: encoder and decoder alike": (
        {"d_model": 1024, "encoder_attention_heads": 16, "decoder_attention_heads": 16,
         "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096},
        {"D": 1024, "H": 16, "HK": 16, "E": 64, "F": 64, "S": 4096},
    ),
    "transformer-xl": (
        {"d_model": 1024, "n_head": 16, "d_head": 64, "d_inner": 4096},
        {"D": 1024, "H": 16, "HK": 16, "E": 64, "F": 64, "S": 4096},
    ),
    "xlm": (
        {"emb_dim": 2048, "n_heads": 16},
        {"D": 2048, "H": 16, "HK": 16, "E": 128, "F": 128, "S": 8192},
    ),
    "multimodal, by another name": (
        {"llm_config": {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2,
                        "intermediate_size": 1024}, "vision_config": {"hidden_size": 99}},
        {"D": 512, "H": 8, "HK": 2, "E": 64, "F": 64, "S": 1024},
    ),
    "deepseek: heads of K and V differ": (
        {"hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 16,
         "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "intermediate_size": 10944},
        {"D": 2048, "H": 16, "HK": 16, "E": 192, "F": 128, "S": 10944},
    ),
    "diffusers: no model dimension": (
        {"num_attention_heads": 48, "attention_head_dim": 64},
        {"D": 3072, "H": 48, "HK": 48, "E": 64, "F": 64, "S": 12288},
    ),
    "multimodal": (
        {"text_config": {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 1024},
         "vision_config": {"hidden_size": 99}},
        {"D": 512, "H": 8, "HK": 8, "E": 64, "F": 64, "S": 1024},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_config(name, tmp_path):
    config, ranks = CONFIGS[name]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert ranks_of_config(path) == ranks
    expected = {"B": 2, **ranks, "P": 1024, "M": 1024}
    assert workload(config=path, seq="1K", shape="B=2") == expected


@pytest.mark.parametrize(
    ("config", "message", "allowed"),
    [
        ({"embed_dim": 96, "hidden_size": 768, "num_heads": [3, 6, 12, 24]},
         "num_heads differs by layer: [3, 6, 12, 24]", "the sizes of one layer in --shape"),
        ({"d_model": 512, "encoder_attention_heads": 8, "decoder_attention_heads": 4},
         "encoder_attention_heads = 8 and decoder_attention_heads = 4 differ",
         "one of both in a config of its own, or --shape"),
    ],
)  # fmt: skip
def test_a_config_of_layers_that_differ(config, message, allowed, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert (message, allowed) in faults(ranks_of_config, path)


def test_a_config_equals_the_model_of_that_name(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIGS["llama"][0]))
    assert workload(config=path, seq="4K") == workload("Llama-3.1-8B", "4K")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1:2: not JSON: Expecting property name enclosed in double quotes"),
        ('{"a": 1,\n  b: 2}', ":2:3: not JSON: Expecting property name"),
        ("[1]", ": not a JSON object"),
        ("", ":1:1: not JSON: Expecting value"),
        ("{}", ": no model dimension"),
        ("{}", ": no number of attention heads"),
        ('{"hidden_size": 10, "num_attention_heads": 3}', ": D = 10 is not a multiple of H = 3"),
        (
            '{"hidden_size": 12, "num_attention_heads": 6, "num_key_value_heads": 4}',
            ": H = 6 is not a multiple of HK = 4",
        ),
        ('{"hidden_size": "12", "num_attention_heads": 6}', ": hidden_size = '12' is no size"),
        ('{"hidden_size": -1, "num_attention_heads": 0}', ": hidden_size = -1 is no size"),
        ('{"hidden_size": -1, "num_attention_heads": 0}', ": num_attention_heads = 0 is no size"),
        ("[" * 100_000, ": not JSON: "),
        ('{"hidden_size": ' + "9" * 5000 + "}", ": not JSON: "),
    ],
)
def test_a_config_that_is_none(text, message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        ranks_of_config(path)
    assert f"{path}{message}" in str(caught.value)


def test_a_config_that_cannot_be_read(tmp_path):
    ((message, _),) = faults(ranks_of_config, tmp_path / "none.json")
    assert message == "cannot be read: No such file or directory"
    path = tmp_path / "config.json"
    path.write_bytes(b'{"a": "\xff"}')
    ((message, _),) = faults(ranks_of_config, path)
    assert message.startswith("cannot be read: 'utf-8' codec can't decode byte 0xff")
