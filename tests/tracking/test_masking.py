"""What counts as a secret, and that nothing else does."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

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


SECRET = "hunter2XYZ99abcd"


@pytest.mark.parametrize(
    "text",
    [
        f"mssql+pyodbc:///?odbc_connect=DRIVER=x;UID=sa;PWD={SECRET}",
        f"mssql:///?odbc_connect=UID%3Dsa%3BPWD%3D{SECRET}",
        f"DefaultEndpointsProtocol=https;AccountKey={SECRET};EndpointSuffix=x",
        f"PGPASS={SECRET}",
        f"--pass {SECRET}",
        f"passphrase={SECRET}",
        f"auth: {SECRET}",
        f"Authorization: Basic {SECRET}",
        f'{{"Authorization": "Basic {SECRET}"}}',
        f"Authorization: Digest name=me, response={SECRET}",
        f"bearer {SECRET}",
        f"Cookie: session={SECRET}",
        f"https://x.blob.core.windows.net/c?sv=1&sig={SECRET}",
        f"https://b.s3.amazonaws.com/k?X-Amz-Credential=me&X-Amz-Signature={SECRET}&x=1",
        f"https://storage.googleapis.com/b/k?X-Goog-Signature={SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{SECRET}",
        f"token npm_{SECRET}",
        f"key ya29.{SECRET}",
        f"stripe sk_live_{SECRET}",
        f"postgresql://me:pa/{SECRET}@host/db",
        f"postgresql://me:a {SECRET}@host/db",
        f"postgresql://me:a@{SECRET}@host/db",
        f"postgresql://:{SECRET}@host/db",
        f"redis://{SECRET}@host",
        f"password=ab;{SECRET}",
        f"password=ab&{SECRET}",
        f"password=ab,{SECRET}",
        f"password=ab}}{SECRET}",
        rf"token=a\ {SECRET}",
        f"token=a'{SECRET}'",
        f"'+db.password=two {SECRET}' x=1",
        f"'db.password=two'\"'\"'{SECRET}'",
    ],
)
def test_no_part_of_a_secret_is_left(text: str) -> None:
    shown = masked_text(text)
    assert SECRET not in shown
    assert "***" in shown
    assert SECRET not in masked_diff(f"diff --git a/x.yaml b/x.yaml\n+{text}\n")


@pytest.mark.parametrize(
    "text",
    [
        "https://host:5000/#/experiments/1 and me@host.org",
        "see http://host/a@b",
        "Basic understanding is enough",
        "passes=3 author=me compass=north",
        "data.dir=gs://bucket/folder train.epochs=3",
        "url=sqlite:////home/me/mlflow.db",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert masked_text(text) == text


# As long as a password: a shorter piece may stand in the name or in the mask by chance.
PASSWORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=40)
NAMES = st.sampled_from(["password", "db.pwd", "+data.fetch.token", "apiKey", "auth", "--pass"])


@given(NAMES, PASSWORDS)
def test_a_password_in_a_word_of_a_shell_is_masked_whole(name: str, password: str) -> None:
    words = [f"{name}={password}", "x=1"]
    shown = masked_text(shlex.join(words))
    assert password.strip() not in shown
    assert "***" in shown
    if password.isalnum():
        assert shlex.split(shown)[-1] == "x=1"


@given(NAMES, PASSWORDS)
def test_a_password_in_json_is_masked_whole(name: str, password: str) -> None:
    text = json.dumps({"a": 1, name: password, "b": 2})
    assert json.loads(masked_text(text).replace("***", '"***"', 1)) == {"a": 1, name: "***", "b": 2}


@given(st.text("abcXYZ019/ -_.;&+$!", min_size=8).map(str.strip).filter(lambda p: len(p) > 7))
def test_a_password_in_an_address_is_masked_whole(password: str) -> None:
    assume(not re.match(r"\d{1,5}([/ ]|$)", password))  # that is a port
    for address in (f"postgresql://me:{password}@host/db", f"uri=http://:{password}@host:5/x"):
        shown = masked_text(f"cannot open {address}")
        assert password not in shown
        assert "://***@host" in shown


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert masked_text(masked_text(text)) == masked_text(text)


@pytest.mark.parametrize(
    "name", ["pwd", "pass", "passphrase", "auth", "sas", "signature", "connection_string"]
)
def test_the_value_of_a_secret_name_is_masked(name: str) -> None:
    assert masked({name: SECRET}) == {name: "***"}
