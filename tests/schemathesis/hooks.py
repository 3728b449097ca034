"""What schemathesis cannot know: the name of the model that is served. Without it every chat would end at 404."""

import schemathesis

MODEL = "foveate-nano"
CHATS = ("/v1/chat/completions", "/v1/count")


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if case.operation.path in CHATS and isinstance(body, dict) and isinstance(body.get("model"), str):
        body["model"] = MODEL
