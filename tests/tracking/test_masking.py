"""What counts as a secret, and that nothing else does."""

from __future__ import annotations

import pytest

from flowersweep.tracking.masking import masked, masked_diff, masked_text, secret


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "hfToken",
        "db.password",
        "AWS_SECRET_ACCESS_KEY",
        "api-key",
        "apikey",
        "privateKey",
        "credentials",
    ],
)
def test_names_of_secrets_are_recognised(name):
    assert secret(name)


@pytest.mark.parametrize(
    "name", ["monkey", "keyboard", "keras", "learning_rate", "passes", "turkey"]
)
def test_other_names_are_left_alone(name):
    assert not secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "python -m flowersweep tracking.token=abc x=1",
            "python -m flowersweep tracking.token=*** x=1",
        ),
        ("db.password='two words' x='b c'", "db.password=*** x='b c'"),
        (
            "tracking.uri=http://me:pw@host:5/x?token=abc&b=1",
            "tracking.uri=http://***@host:5/x?token=***&b=1",
        ),
        ("postgresql://me:p@w@host/db", "postgresql://***@host/db"),
        ("+data.fetch={api_key:abc,b:2}", "+data.fetch={api_key:***,b:2}"),
        ('password = """abc"""', "password = ***"),
        ("fetch --api-key abc", "fetch --api-key ***"),
        ("the token was bad: see http://host/a@b", "the token was bad: see http://host/a@b"),
        (
            '-    key = "abc"\n+    "api_token": \'abc\',\n+x = 1',
            '-    key = ***\n+    "api_token": ***,\n+x = 1',
        ),
        ("+login('hf_abcdefghijklmnop')", "+login('***')"),
        ("curl -H 'Authorization: Bearer abcdefgh.ijk'", "curl -H 'Authorization: Bearer ***'"),
        ("+-----BEGIN RSA PRIVATE KEY-----\n+MIIabc\n+-----END RSA PRIVATE KEY-----\n", None),
        (
            "sk-learn hf_short risk-assessment-of-everything",
            "sk-learn hf_short risk-assessment-of-everything",
        ),
        (
            "+sweep=smoothing optimizer.learning_rate=1e-3",
            "+sweep=smoothing optimizer.learning_rate=1e-3",
        ),
    ],
)
def test_secrets_in_a_command_are_masked_and_the_rest_is_kept(text, shown):
    assert masked_text(text) == (
        shown or "+-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\n"
    )


def test_nested_values_are_masked_and_empty_ones_and_switches_stay():
    value = {
        "uri": "http://me:pw@host",
        "fetch": {"key": "abc", "token": None, "keys": ["a"]},
        "use_token": True,
        "list": [{"secret": 5}, 1.5],
    }
    assert masked(value) == {
        "uri": "http://***@host",
        "fetch": {"key": "***", "token": None, "keys": "***"},
        "use_token": True,
        "list": [{"secret": "***"}, 1.5],
    }


def test_in_a_diff_code_stays_code_and_texts_of_secret_names_are_masked():
    code = [
        "+found = sorted(each, key=lambda each: each.number, reverse=True)",
        "+    api_token: str = 'abc'",
        '+os.environ["HF_TOKEN"] = "abc"',
        "+login(password='abc', name='me')",
        "+def read(key: str, token: Token) -> None:",
        "+run('http://me:abc@host')",
    ]
    other = ["+password: abc", "+epochs: 3"]
    text = "\n".join(
        ["diff --git a/x.py b/x.py", *code, "diff --git a/x.yaml b/x.yaml", *other, ""]
    )
    found = masked_diff(text)
    assert "abc" not in found
    assert [line for line in text.splitlines() if line not in found.splitlines()] == [
        code[1],
        code[2],
        code[3],
        code[5],
        other[0],
    ]
    assert len(found.splitlines()) == len(text.splitlines())


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ('+token = b"abc"', "+token = ***"),
        ('+token = f"abc{x}"', "+token = ***"),
        ("+api_key: str = Rb'abc'", "+api_key: str = ***"),
        ('+password = """abc"""', "+password = ***"),
        ('+password = "a\\"abc"  # why', "+password = ***  # why"),
        ('+password = """\n+abc\n+"""\n+x = """y"""', '+password = ***\n+\n+\n+x = """y"""'),
        ('+password = """\n+abc\n@@ -9 +9 @@\n+x = 1', "+password = ***\n+\n@@ -9 +9 @@\n+x = 1"),
        ('+TOKEN = (\n+    "abc"\n+    "abc"\n+)', "+TOKEN = (\n+    ***\n+\n+)"),
        (
            '+names = sorted(x, key=by)\n+words = ("y", b"z")',
            '+names = sorted(x, key=by)\n+words = ("y", b"z")',
        ),
    ],
)
def test_in_a_diff_a_text_of_any_kind_is_masked_whole_and_no_line_is_lost(code, shown):
    begin = "diff --git a/x.py b/x.py\n"
    assert masked_diff(begin + code) == begin + shown
