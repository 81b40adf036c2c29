"""Chat templates that declare tools, with the mechanics of Qwen's, Hermes' and others, and their tokenizers."""

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

START, END = "<|im_start|>", "<|im_end|>"
_CALLS = (
    '{% for c in m.tool_calls or [] %}{{ \'\\n<tool_call>\\n{"name": "\' + c.function.name + \'", "arguments": \' '
    "+ (c.function.arguments | tojson) + '}\\n</tool_call>' }}{% endfor %}"
)
_TURN = "{{ '<|im_start|>' + m.role + '\\n' + m.content }}" + _CALLS + "{{ '<|im_end|>\\n' }}"
_BEGIN = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
_SCHEMAS = "{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}"
_DECLARED = (
    "{% if tools %}{{ '<|im_start|>system\\n' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}"
    "{{ 'Tools:\\n<tools>' }}" + _SCHEMAS + "{{ '\\n</tools>\\nCall one as\\n<tool_call>\\n"
    '{"name": NAME, "arguments": OBJECT}\\n</tool_call><|im_end|>\\n\' }}'
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
    "{% endif %}"
)
QWEN = (
    _DECLARED + "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}"
    "{% elif m.role != 'system' %}" + _TURN + "{% endif %}{% endfor %}" + _BEGIN
)
"""Results of calls stand within a turn of the user, those that follow each other in one."""
HERMES = (
    _DECLARED + "{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>tool\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}"
    "{% elif m.role != 'system' %}" + _TURN + "{% endif %}{% endfor %}" + _BEGIN
)
"""Results of calls are turns of the tool."""
THINKING = QWEN.replace(
    _BEGIN,
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}",
)
"""As Qwen's later ones: without a thinking turn the model's turn begins with empty thoughts."""
PLAIN = "{% for m in messages %}" + _TURN + "{% endfor %}" + _BEGIN
"""Knows no tools; any role is written as it is named."""
PICKY = (
    "{% for m in messages %}{% if m.role not in ('system', 'user', 'assistant') %}"
    "{{ raise_exception('unknown role') }}{% endif %}" + _TURN + "{% endfor %}" + _BEGIN
)
"""Refuses a turn of a tool."""
TEMPLATES = {"qwen": QWEN, "hermes": HERMES, "thinking": THINKING, "plain": PLAIN, "picky": PICKY}

TEXTS = [
    "Let us compute it with a program. So the answer is \\boxed{77}.",
    '<tool_call>\n{"name": "python", "arguments": {"code": "print(7 * 11)"}}\n</tool_call>',
    "<tool_response>\n77\n</tool_response>",
]


@cache
def calling_tokenizer(name: str, *, tags: str = "text") -> PreTrainedTokenizerFast:
    """A byte-level BPE with one of the templates. The tags of calls are `text` like any other, `added` tokens that are
    not special, as Qwen's are, or `special` ones.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<|pad|>", START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if tags != "text":
        names = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
        tokenizer.add_tokens([AddedToken(tag, special=tags == "special", normalized=False) for tag in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token=END, chat_template=TEMPLATES[name]
    )
