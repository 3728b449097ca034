"""Make fixtures/prompts.json: chat templates, conversations, and what transformers renders of them.

    python reference/make_prompts.py

The templates are ours, each in the manner of a family (ChatML, Llama 3, Mistral, Gemma, LLaVA) or of a feature that
published templates use. The renderer is transformers' own, with its clock stopped.
"""

import json
from datetime import datetime, timezone
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils

OUT = Path(__file__).resolve().parents[1] / "fixtures" / "prompts.json"
NOW = 1_730_000_000  # 2024-10-27 03:33:20 UTC

LLAMA_TOKENS = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}

# name -> (source, special tokens, whether content is a list of parts)
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou answer briefly.<|im_end|>\\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
        False,
    ),
    "llama3": (
        """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set opening = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set opening = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "You may call:\\n\\n" }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- opening }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
        LLAMA_TOKENS,
        False,
    ),
    "mistral": (
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] %}\n"
        "    {%- set turns = messages[1:] %}\n{%- else %}\n    {%- set turns = messages %}\n{%- endif %}\n\n"
        "{{- bos_token }}\n{%- for message in turns %}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
        "        {{- raise_exception('Roles must alternate: ' ~ message['role'] ~ ' stands at ' ~ loop.index0) }}\n"
        "    {%- endif %}\n"
        "    {%- if message['role'] == 'user' %}\n"
        "        {%- if loop.last and system is defined %}\n"
        "            {{- ' [INST] ' + system + '\\n\\n' + message['content'] + ' [/INST]' }}\n"
        "        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n"
        "    {%- elif message['role'] == 'assistant' %}\n"
        "        {{- ' ' + message['content'] + eos_token}}\n"
        "    {%- else %}\n        {{- raise_exception('Only user and assistant roles are supported') }}\n"
        "    {%- endif %}\n{%- endfor %}\n",
        SENTENCEPIECE,
        False,
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}"
        "{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        False,
    ),
    "llava": (
        "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}"
        "{% endif %}{# pictures come first #}"
        "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
        "{% if message['role'] != 'assistant' %}"
        "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' '}}{% endfor %}"
        "{% else %}{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
        "{% generation %}{{ part['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
        SENTENCEPIECE,
        True,
    ),
    "parts-in-order": (
        """{%- for message in messages -%}
    <|{{ message.role | capitalize }}|>
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == 'image' or 'image' in part %}
                {{- '<image>' }}
            {%- elif part.type == 'text' %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- eos_token }}
{% endfor %}
{%- if add_generation_prompt -%}
    <|Assistant|>
    {%- endif -%}
""",
        SENTENCEPIECE,
        True,
    ),
    "whitespace": (
        """{# a comment
   over two lines #}
{% for message in messages %}
    {% if loop.first %}
  first:
    {% elif loop.last -%}
  last:
    {%- endif +%}
[{{ message.role }}]   {{- message.content }}
	{%+ if true %} kept{% endif %}
  {%- generation -%}  {{ loop.index }}/{{ loop.length }}  {%- endgeneration +%}
{% endfor %}
{% if add_generation_prompt %}
go
{% endif %}

""",
        {},
        False,
    ),
    "features": (
        """{%- macro tag(name, body='') -%}<{{ name }}>{{ body }}</{{ name }}>{%- endmacro -%}
{%- set ns = namespace(count=0, seen=[], last=none) -%}
{%- for message in messages[::-1] -%}
    {%- if message.role == 'system' %}{% continue %}{% endif -%}
    {%- if ns.count >= 3 %}{% break %}{% endif -%}
    {%- set ns.count = ns.count + 1 -%}
    {%- set ns.last = message -%}
    {%- set body = message.content.split('</think>')[-1].lstrip('\\n').rstrip() -%}
    {{- tag(message['role'], body | replace('is', 'IS')) ~ loop.index ~ (',' if not loop.last else '.') -}}
{%- endfor -%}
{{- '\\n' ~ ns.count ~ ' ' ~ (messages | length) ~ ' ' ~ messages[-1].content[:4] ~ ' ' ~ messages[0].get('name', '?') -}}
{%- for key, value in ns.last.items() %} {{ key }}={{ value | length }}{% endfor -%}
{{- ' ' ~ messages | map(attribute='role') | join('+') ~ ' ' ~ (tools | default([], true) | length) -}}
{%- if 'user' in messages | map(attribute='role') | list and not messages[0].missing is defined %} yes{% endif -%}
{%- if messages[0].content.startswith('W') or messages[0].content.endswith('?') %} W?{% endif -%}
{{- ' ' ~ (enable_thinking if enable_thinking is defined else 'unset') -}}
{%- set block %}[{{ messages[0].content | upper | first }}]{% endset %}{{ block }} {{ none }} {{ true }} {{ 1.0 }} {{ 7 // 2 }}
{{- messages | selectattr('role', 'equalto', 'user') | list | length }}{{ '%s' if false else 'x' * 3 }}""",
        {"eos_token": "</s>"},
        False,
    ),
    "json": (
        "{{ messages[0] | tojson }}|{{ messages | tojson(indent=2) }}|{{ tools | tojson(sort_keys=true) }}|"
        "{{ tools | tojson(separators=(',', ':'), ensure_ascii=true) }}|{{ [] | tojson(indent=1) }}{{ {} | tojson }}",
        {},
        False,
    ),
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "What's the weather in <city> & around? é 🌧",
            "parameters": {"type": "object", "required": ["city"], "z": 1, "a": None, "b": [1, 2.5, True, -3], "e": {}},
        },
    }
]

IMAGE = {"image": True}
CONVERSATIONS = {
    "question": [("user", ["Which colour is it?"])],
    "system": [("system", [" Be brief. "]), ("user", ["Why?\n"])],
    "turns": [
        ("user", ["What is a banana?"]),
        ("assistant", ["<think>hm</think>\n\nA fruit. "]),
        ("user", ["  Wie heißt sie auf 日本語? 🍌 "]),
        ("assistant", ["バナナ"]),
        ("user", ["Thanks & \"bye\" <b>\\ \t\u0001"]),
    ],
    "two users": [("user", ["One."]), ("user", ["Two."])],
    "image": [("user", [IMAGE, "What is this?"])],
    "image after text": [("user", ["Look: ", IMAGE, " and ", IMAGE, " differ how?"])],
    "images in turns": [
        ("system", ["You see."]),
        ("user", [IMAGE, "First?"]),
        ("assistant", ["A cat."]),
        ("user", ["And ", IMAGE, "?"]),
    ],
    "empty": [("user", [""])],
}

# Further runs: (template, conversation, options)
EXTRA = [
    ("llama3", "turns", {"tools": TOOLS}),
    ("llama3", "question", {"variables": {"date_string": "1 Jan 2000"}}),
    ("features", "turns", {"variables": {"enable_thinking": False}}),
    ("features", "question", {"tools": TOOLS}),
    ("json", "turns", {"tools": TOOLS}),
    ("json", "system", {"tools": []}),
]


class Stopped(datetime):
    """transformers asks for `datetime.now()`."""

    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(NOW, timezone.utc)


def content(parts, reads_parts):
    """Content as the template wants it: a list of parts, or one string with `<image>` lines."""
    if reads_parts:
        return [{"type": "image"} if part is IMAGE else {"type": "text", "text": part} for part in parts]
    return "".join("<image>\n" if part is IMAGE else part for part in parts)


def vicuna(messages):
    """LLaVA's conv_vicuna_v1: after the user's turn a space, after the assistant's `</s>`."""
    text = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    turns = [("", content(parts, False)) for role, parts in messages if role == "system"] or [("", text)]
    text = turns[0][1] + " "
    for role, parts in messages:
        if role != "system":
            text += f"{role.upper()}: {content(parts, False)}" + (" " if role == "user" else "</s>")
    return text + "ASSISTANT:"


def case(template, conversation, generate=True, tools=None, variables=None):
    source, tokens, reads_parts = TEMPLATES[template]
    messages = CONVERSATIONS[conversation]
    given = [{"role": role, "content": content(parts, reads_parts)} for role, parts in messages]
    options = {"add_generation_prompt": generate, "tools": tools, "documents": None} | tokens | (variables or {})
    found = {
        "template": template,
        "messages": [[role, [None if part is IMAGE else part for part in parts]] for role, parts in messages],
        "images": sum(part is IMAGE for _, parts in messages for part in parts),
        "add_generation_prompt": generate,
        "tools": tools,
        "variables": variables or {},
    }
    compiled = chat_template_utils._compile_jinja_template(source)
    try:
        return found | {"text": compiled.render(messages=given, **options)}
    except jinja2.exceptions.TemplateError as error:
        return found | {"refused": str(error)}


def main():
    chat_template_utils.datetime = Stopped
    cases = [case(*run) for run in [(name, talk) for name in TEMPLATES if name != "json" for talk in CONVERSATIONS]]
    cases += [case("chatml", "turns", generate=False), case("llava", "image", generate=False)]
    cases += [case(template, talk, **options) for template, talk, options in EXTRA]
    plain = [case("chatml", talk) for talk in CONVERSATIONS]
    for found, messages in zip(plain, CONVERSATIONS.values()):
        cases.append(found | {"template": "vicuna_v1", "text": vicuna(messages)})
    document = {
        "transformers": transformers.__version__,
        "jinja2": jinja2.__version__,
        "now": NOW,
        "templates": {
            name: {"source": source, "special_tokens": tokens, "reads_parts": reads_parts}
            for name, (source, tokens, reads_parts) in TEMPLATES.items()
        },
        "cases": cases,
    }
    OUT.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(len(cases), "cases", OUT.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
