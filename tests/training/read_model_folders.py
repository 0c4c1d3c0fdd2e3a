"""Read model folders with whatever transformers there is, and write what they say as JSON.

python read_model_folders.py out.json FOLDER ...        # what each reads, and its logits
python read_model_folders.py out.json --texts FOLDER    # what it answers
"""

import json
import sys
from pathlib import Path

import torch
import transformers

QUESTION = "Who founded the Orlin works?"
TEXT = "Mara Voss\n\n<|im_end|> 1931 日本"
NOUNS = ("bread", "the Moon", "rivers", "glass", "iron", "bees", "Paris", "salt", "tea", "rain")
PROMPTS = [form.format(noun) for noun in NOUNS for form in ("What is {}?", "Write one sentence about {}.")]


def read_folder(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    sees = "ConditionalGeneration" in config.architectures[0]
    loader = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    # Both attend by the same operations then; the dtype is the folder's own.
    model = loader.from_pretrained(folder, dtype="auto", attn_implementation="eager").eval()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    encoded = tokenizer(prompt, add_special_tokens=False)
    # Several times over, beyond what a rotary embedding without its scaling was made for.
    ids = torch.tensor([(encoded["input_ids"] * 20)[:200]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, [5, 100, 199]]
    return {
        "dtype": str(model.dtype),
        "ends": model.generation_config.eos_token_id,
        "inputs": sorted(encoded),
        "prompt": prompt,
        "ids": encoded["input_ids"],
        "text_ids": tokenizer(TEXT)["input_ids"],
        "special": sorted(tokenizer.all_special_tokens),
        "logits": logits.float().tolist(),
    }


def answer_prompts(folder):
    """Greedy texts, as a server gives them: by the folder's own template and ends."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", attn_implementation="eager"
    ).eval()
    texts = []
    for prompt in PROMPTS:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        encoded = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        ids = model.generate(**encoded, do_sample=False, max_new_tokens=16)
        texts.append(tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :]))
    return texts


def main():
    out, *folders = sys.argv[1:]
    torch.set_num_threads(1)
    if folders[0] == "--texts":
        found = answer_prompts(folders[1])
    else:
        found = {Path(folder).name: read_folder(folder) for folder in folders}
    Path(out).write_text(json.dumps({"version": transformers.__version__, "folders": found}))


if __name__ == "__main__":
    main()
