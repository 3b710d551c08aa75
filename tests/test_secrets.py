"""Secrets come from the environment alone: they are known there, taken out of every text, and
refused in files.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from reasondistill import secrets
from reasondistill.config import Cluster, EnvironmentSettings, OpenAISettings, SampledModel
from reasondistill.config.loading import load_cluster, make_pipeline
from reasondistill.errors import ConfigError
from reasondistill.foreign_text import ShownFormatter
from reasondistill.records import Completion, Example, Message, Sampling, Trace
from reasondistill.runs.store.shards import line_of
from reasondistill.secret_names import is_secret_name
from reasondistill.secrets import cleaned, found_in, masked, variable_in
from reasondistill.shell_secrets import found_in_shell

TOKEN = "hf_aB3dE6gH9kL2mN5pQ8rS"
PASSWORD = 'p&ss/"w+rd 42!'


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("DB_PASSWD", PASSWORD)
    secrets.look_again()
    yield
    monkeypatch.undo()
    secrets.look_again()


# ---- masking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [TOKEN, PASSWORD])
@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda secret: quote(secret, safe=""),
        lambda secret: json.dumps(secret),
        lambda secret: html.escape(secret),
        lambda secret: f"?a=1&key={quote(secret)}&b",
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(b"x" + secret.encode()).decode(),
        lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
        lambda secret: base64.b64encode(f"user:{secret}:and more".encode()).decode(),
    ],
)
def test_a_secret_is_masked_in_each_form_in_which_it_comes_back(
    secret: str, form: Callable[[str], str]
) -> None:
    echo = form(secret)
    clean = masked(f"Basic {echo}, that was it")
    assert secrets.MASK in clean and clean.startswith("Basic ") and clean.endswith(", that was it")
    inner = [echo[place : place + 10] for place in range(len(echo) - 10)]
    assert all(piece not in clean for piece in inner if piece not in "?a=1&key=")


AWS = "wJalrXUtnFEMI/K7MDENG&bPx+RfiCYEXAMPLE"


@pytest.mark.parametrize(
    "form",
    [
        AWS.replace("/", "\\/"),
        AWS.replace("/", "\\\\\\/"),
        AWS.replace("/", "\\u002f").replace("&", "\\u0026"),
        AWS.replace("/", "\\u002F").replace("+", "\\u002b"),
        AWS.replace("/", "\\x2f"),
        quote(AWS, safe="").replace("%2F", "%2f"),
        quote(quote(AWS, safe=""), safe=""),
        AWS.replace("/", "&#x2F;").replace("&b", "&amp;b"),
        AWS.replace("/", "&#x2f;"),
        AWS.replace("/", "&#47;"),
        AWS.replace("/", "&#047;"),
        # Mixed, as no encoder alone writes it.
        AWS.replace("/", "\\/").replace("&", "\\u0026").replace("+", "%2b"),
        json.dumps(json.dumps({"key": AWS})),
        quote(base64.b64encode(f"me:{AWS}??>".encode()).decode(), safe=""),
        base64.b64encode(f"{AWS}??>".encode()).decode().replace("/", "\\/"),
    ],
)
def test_a_key_is_masked_however_its_signs_are_escaped(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS)
    secrets.look_again()
    clean = masked(f'{{"message": "bad {form}" and more')
    assert secrets.MASK in clean and clean.endswith("and more")
    assert "wJalr" not in clean and "EXAMPLE" not in clean and "K7MDENG" not in clean


def test_of_base64_nothing_of_the_secret_stays_at_its_ends() -> None:
    for before in range(6):
        text = base64.b64encode(b"u" * before + TOKEN.encode() + b"v" * 5).decode()
        assert masked(f"<{text}>") == "<***>"


def test_many_echoes_and_neighbours_are_all_masked() -> None:
    assert masked(f"{TOKEN}{TOKEN} x{PASSWORD}") == "****** x***"


def test_a_harmless_text_is_the_same_object() -> None:
    text = "We get 42 = 6 * 7, so \\boxed{42}."
    assert masked(text) is text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("API_KEY", "EMPTY"),
        ("API_KEY", "not-needed"),
        ("API_KEY", "1234567"),
        ("PIN_KEY", "123456789012"),
        ("DB_PASSWORD", "password"),
        ("TOKENIZERS_PARALLELISM", "false-or-true"),
        ("SSH_AUTH_SOCK", "/tmp/agent.123"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/hostname"),
        ("AUTH_URL", "https://login.example.com/a"),
        ("EOS_TOKEN", "<|im_end|>"),
        ("OPENAI_API_KEY", "<|im_end|>"),
        ("TURN_TOKEN", "<|endoftext|>"),
        ("PRIMARY_KEY", "problem_id"),
        ("SORT_KEY", "created_at_desc"),
        ("SOME_KEY", "created_at_desc"),
        ("SOME_TOKEN", "the answer is"),
        ("ANSWER_KEY", "the answer is"),
        ("PARTITION_KEY", "customer_id"),
        ("API_KEY_HEADER", "Authorization"),
        ("TOKEN_LIMIT_PER_MINUTE", "100000 per minute"),
        ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D"),
        ("STOP_TOKENS", "Therefore, the answer"),
        ("http_proxy", "proxy.example.com:8080"),
        ("NPM_PACKAGE", "http://localhost:8080/@scope/package"),
    ],
)
def test_what_texts_hold_by_chance_is_no_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    secrets.look_again()
    assert masked(f"it is {value}.") == f"it is {value}."


@pytest.mark.parametrize(
    ("variable", "value", "secret"),
    [
        ("GH_PAT", "letters-only-here", "letters-only-here"),
        ("CI_JOB_TOKEN", "abc12345", "abc12345"),
        ("myApiKey", "zyxwvutsrq9", "zyxwvutsrq9"),
        ("HTTPS_PROXY", "http://me:plantedpass@proxy:3128", "plantedpass"),
        ("OPENAI_BASE_URL", "https://h/v1?api_key=planted-in-query", "planted-in-query"),
        ("WHATEVER", "ghp_0123456789abcdefABCDEF", "ghp_0123456789abcdefABCDEF"),
        ("DB_PASSWORD", "correct horse battery", "correct horse battery"),
        ("HF_TOKEN", "my_secret_words", "my_secret_words"),
        ("DBPASS", "plantedDbp4ssw", "plantedDbp4ssw"),
        ("MYPWD", "plantedpassw0rd", "plantedpassw0rd"),
        ("APIKEYS", "k1planted000aaa,k2planted111bbb", "k2planted111bbb"),
        ("SECRETKEYBASE", "plantedbase64base1", "plantedbase64base1"),
        ("AUTH_HEADER", "Bearer plantedhdr0001", "plantedhdr0001"),
        ("PASSWORD2", "plantednum22", "plantednum22"),
        ("TOKEN1", "plantedtok01", "plantedtok01"),
        ("CONNECTION_STRING", "Server=x;Password=plantedconn1;", "plantedconn1"),
        ("DB", "Server=x;User Id=me;Pwd=plantedconn1;x=1", "plantedconn1"),
        ("STORAGE", "DefaultEndpointsProtocol=https;AccountKey=planteda01==;", "planteda01=="),
        ("DB_JDBC", "jdbc:sqlserver://host;user=x;password=plantedjdbc1", "plantedjdbc1"),
        ("HEADERS", "x=1,api-key=plantedkey001", "plantedkey001"),
        ("CREDENTIALS_JSON", '{"private_key": "plantedjson0000key"}', "plantedjson0000key"),
        ("SLACK_WEBHOOK", "https://hooks.slack.com/services/T0/B0/p1", "services/T0/B0/p1"),
        ("http_proxy", "me:plantedproxy2@proxy:8080", "plantedproxy2"),
        ("ALL_PROXY", "http://me:plan/ted@pr0xy@proxy:8080", "plan/ted@pr0xy"),
        ("HTTPS_PROXY", "http://me:pl'anted0@proxy:8080", "pl'anted0"),
        ("TLS_KEY", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n", "MIIEvQIBADANBg"),
    ],
)
def test_the_environment_tells_what_is_a_secret(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, secret: str
) -> None:
    monkeypatch.setenv(variable, value)
    secrets.look_again()
    assert masked(f"it is {secret}.") == "it is ***."


def test_a_variable_that_a_cluster_file_names_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVER", "opensesame77")
    secrets.look_again("MY_SERVER")
    assert masked("opensesame77") == "***"


def test_a_record_keeps_its_keys_ids_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "problem_id")
    monkeypatch.setenv("B_PASSWORD", "my-model-of-3")
    secrets.look_again()
    completion = Completion(
        reasoning=f"problem_id, {TOKEN}",
        answer_text="my-model-of-3",
        think="closed",
        finish="stop",
        prompt_tokens=1,
        tokens=1,
        seconds=0.0,
    )
    trace = Trace(
        id="problem_id/1:0",
        problem_id="problem_id/1",
        sample=0,
        model="my-model-of-3",
        prompt="question",
        sampling=Sampling(stop=("problem_id",)),
        key="k",
        seed=1,
        completion=completion,
    )
    stored = json.loads(line_of(trace))
    told = stored.pop("completion")
    assert stored == {**trace.model_dump(mode="json", exclude={"completion"})}
    assert (told["reasoning"], told["answer_text"]) == ("***, ***", "***")
    example = Example(
        id="problem_id/1",
        problem_id="problem_id/1",
        trace_id=None,
        messages=(Message(role="user", content=f"What is {TOKEN}?"),),
        tokens=1,
        split="train",
    )
    stored = json.loads(line_of(example))
    assert (stored["id"], stored["messages"][0]["content"]) == ("problem_id/1", "What is ***?")


def test_only_texts_of_a_file_hold_a_variables_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "problem_id")
    monkeypatch.setenv("B_PASSWORD", "my-model-of-3")
    secrets.look_again()
    assert (
        variable_in({"problem_id": 1, "question": "problem_id", "model": "my-model-of-3"}) is None
    )
    assert variable_in({"about": ["with my-model-of-3"]}) == "B_PASSWORD"
    assert variable_in({"request": {"user": TOKEN}}) == "HF_TOKEN"


def test_people_see_nobodys_key() -> None:
    assert cleaned("at https://me:pw@host:8/v1?api_key=x&n=1 with sk-proj-1234567890abc") == (
        "at https://***@host:8/v1?api_key=***&n=1 with ***"
    )


def test_log_lines_and_tracebacks_are_cleaned() -> None:
    try:
        raise ValueError(f"no {TOKEN}")
    except ValueError:
        record = logging.LogRecord("a", 20, "f", 1, "key %s", (TOKEN,), sys.exc_info())
    printed = ShownFormatter("%(message)s").format(record)
    assert TOKEN not in printed and printed.startswith("key ***")


# ---- names ---------------------------------------------------------------------------------------

SECRET_NAMES = """
    HF_TOKEN GH_PAT DB_PASSWD DB_PASS PGPASSWORD MYSQL_PWD api-key x-api-key Authorization apiKey
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN WANDB_API_KEY OPENAI_API_KEY
    ANTHROPIC_API_KEY HUGGING_FACE_HUB_TOKEN MY_CREDENTIALS BASIC_AUTH MYTOKEN SENTRY_DSN key sig
    KEY TOKEN PASSWORD PASS password passwd Passphrase SECRET SECRETS CREDS COOKIE COOKIES JWT
    DBPASS dbpass USERPASS MYPWD ROOTPW DB_PW APIKEYS API_KEYS APIKEY APITOKEN SECRETKEYBASE
    SECRET_KEY_BASE AUTH_HEADER AUTHORIZATION_HEADER X_AUTH_HEADER PASSWORD1 PASSWORD2 TOKEN1
    TOKEN_2 APIKEY1 API_KEY_1 DATABASE_PASSWORD1 DB_PASS2 SECRET_1 MYPWD3 PASSCODE OAUTH OAUTH2
    OAUTH_TOKEN CONNECTION_STRING AZURE_STORAGE_CONNECTION_STRING CONN_STR SQLCONNSTR SLACK_WEBHOOK
    SLACK_WEBHOOK_URL DISCORD_WEBHOOKS PASSWORDS MYPASSWORDS DB_PASSWORDS ACCESS_TOKENS HF_TOKENS
    API_TOKENS REFRESH_TOKEN CSRF_TOKEN SIGNING_KEY ENCRYPTION_KEY PRIVATE_KEY PRIVATEKEY
    SSH_PRIVATE_KEY MASTER_KEY ACCOUNT_KEY AccountKey SharedAccessKey STORAGE_KEY clientSecret
    CLIENTSECRET BEARER BEARER_TOKEN RAY_AUTH_TOKEN BOT_TOKEN CACHE_ENCRYPTION_KEY
    SORT_API_KEY access-token _authToken private-token X-Auth-Token proxy-authorization
    PADDED_TOKEN KEY_PASSPHRASE
"""
HARMLESS_NAMES = """
    PATH PWD OLDPWD TOKENIZERS_PARALLELISM max_tokens MAX_TOKENS maxTokens max_completion_tokens
    MAX_NEW_TOKENS NUM_TOKENS prompt_tokens budget_tokens thinking_tokens skip_special_tokens
    STOP_TOKENS MAXTOKENS stop_token_ids token_ids eos_token_id add_bos_token HF_TOKEN_PATH
    SSH_KEY_FILE KEYBOARD KEYMAP KEYSTROKES MONKEY MONKEYS MONKEYPATCH DONKEY TURKEY HOTKEY
    WHISKEY JOCKEY SSH_AUTH_SOCK AUTHOR AUTHORS PASSENGER PASSAGE PASSAGES PASSIVE COMPASS BYPASS
    TRESPASS OVERPASS LOWPASS LOW_PASS FORWARD_PASS FIRST_PASS pass_at_1 pass-through PATTERN
    PATCH OMP_NUM_THREADS AUTH_TYPE AUTH_URL TOKEN_LIMIT TOKEN_LIMIT_PER_MINUTE TOKENS_PER_MINUTE
    TOKEN_COUNT TOKENIZER TOKENIZER_PATH PRIMARY_KEY SORT_KEY sort_keys PARTITION_KEY FOREIGN_KEY
    ANSWER_KEY QUESTION_KEY CACHE_KEY prompt_cache_key HASHKEY SORTKEY PUBLIC_KEY SSH_PUBLIC_KEY
    PUBKEY GPG_KEY EOS_TOKEN BOS_TOKEN PAD_TOKEN UNK_TOKEN SEP_TOKEN CLS_TOKEN MASK_TOKEN
    SPECIAL_TOKENS EOSTOKEN IMAGE_TOKEN START_TOKEN API_KEY_HEADER TOKEN_HEADER KEY_COLUMN
    KEY_PREFIX API_KEY_ENV api_key_env PASSWORD_FILE PASSWORDFILE PGPASSFILE password-stdin
    SECRETARY SECRETARIAT SECRETS_DIR SECRET_NAME PASSWORD_MIN_LENGTH PASSWORD_POLICY
    PASSWORDLESS SIGNAL SIGMA SIGTERM DESIGN AUTHENTIC COOKIE_NAME SESSION ACCESS SSH_ASKPASS
    GIT_ASKPASS credential.helper WEBHOOK_PORT CONNECTION STRING HEADERS PASSED EXPECT_PASSES
    HOCKEY SPARE_PARTS CREDIT OAUTH_URL TOKEN_FORMAT
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_a_name_says_that_it_holds_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES.split())
def test_a_name_that_only_looks_so_holds_none(name: str) -> None:
    assert not is_secret_name(name)


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "export HF_TOKEN=hf_short",
        "export GH_PAT='abc'",
        'DB_PASSWD="a b" ./start',
        "huggingface-cli login --token abcdef",
        "curl -H 'Authorization: Bearer abcdefgh' http://host",
        "curl -H 'X-Api-Key: abc' http://host",
        "curl -u me:pw http://host",
        "git clone https://me:pw@github.com/a/b",
        "pip install --index-url https://token@pypi.example.com/simple x",
        "login ghp_0123456789abcdefABCDEF",
        "login AKIAIOSFODNN7EXAMPLE",
        "login xoxb-123456789012-abcdef",
        "login hf_aB3dE6gH9kL2mN5pQ8rS",
        "curl 'https://host/x?sig=abc'",
        "apptainer exec --env WANDB_API_KEY=abc x.sif",
        "export HF_TOKEN+=abc",
        "export DBPASS=abc",
        "export HF_TOKEN=/planted0123",
        "export HF_TOKEN=/planted/0123abc",
        "export HF_TOKEN='$planted'",
        "export HF_TOKEN=$'planted'",
        "export HF_TOKEN=\\$planted",
        "export HF_TOKEN=$(echo planted01)",
        'export HF_TOKEN="$(echo planted01)"',
        "export HF_TOKEN=`echo planted01`",
        "export HF_TOKEN=$(printf %s planted01)",
        "export HF_TOKEN=$(base64 -d <<< cGxhbnRlZA==)",
        "export HF_TOKEN=$(cat <<< planted)",
        ": ${HF_TOKEN:=planted01}",
        "export HF_TOKEN=${HF_TOKEN:-planted01}",
        "API_KEYS=(planted01 planted02)",
        "declare -x HF_TOKEN=planted",
        "setenv HF_TOKEN planted",
        "set -gx HF_TOKEN planted",
        "read HF_TOKEN <<< planted",
        "read -r HF_TOKEN <<< 'planted'",
        "read HF_TOKEN OTHER <<< planted",
        "IFS= read -r USER_NAME HF_TOKEN <<< 'me planted'",
        "read HF_TOKEN <<EOF\nplanted\nEOF",
        "printf -v HF_TOKEN planted",
        "printf -v HF_TOKEN '%s' planted",
        "export http_proxy=me:planted@proxy:8080",
        "docker run -eHF_TOKEN=planted x",
        "docker run --env=HF_TOKEN=planted x",
        "hf auth login --token planted",
        "hf auth login -t planted",
        "wandb login planted01",
        "wandb login --relogin planted01",
        "wandb login --host=https://wandb.example.com planted01",
        "docker login -u me -p planted host",
        "podman login -pplanted host",
        "gh auth login --with-token <<< planted",
        "echo planted | docker login --password-stdin host",
        "echo planted | sudo -S true",
        "curl -uuser:planted01 http://host",
        "curl -sSu user:planted01 http://host",
        "curl --user=user:planted01 http://host",
        'curl -u "$USER:planted01" http://host',
        "wget --password=planted http://host",
        "http -a me:planted host",
        "sshpass -p planted ssh host",
        "sshpass -pplanted ssh host",
        "mysql -u me -pplanted01",
        "redis-cli -a planted ping",
        "unzip -P planted a.zip",
        "openssl enc -d -pass pass:planted",
        "aws configure set aws_secret_access_key planted",
        "npm config set //registry.npmjs.org/:_authToken planted",
        "git config --global user.password planted",
        "echo machine host login me password planted01 > ~/.netrc",
        "cat > ~/.netrc <<EOF\nmachine host login me password planted01\nEOF",
        "echo planted01 > ~/.cache/huggingface/token",
        "export DB='Server=x;Password=planted;'",
    ],
)
def test_a_secret_in_shell_lines_is_refused(line: str) -> None:
    assert found_in_shell(line) is not None
    for key in ("setup", "modules"):
        with pytest.raises(ValidationError, match="environment alone|looks like a secret"):
            EnvironmentSettings.model_validate({key: [line]})
    with pytest.raises(ValidationError, match="environment alone|looks like a secret"):
        EnvironmentSettings(container=line)
    with pytest.raises(ValidationError, match="environment alone|looks like a secret"):
        Cluster.model_validate({"stages": {"default": {"options": [line]}}})


@pytest.mark.parametrize(
    "line",
    [
        "export HF_TOKEN=$MY_TOKEN",
        'export HF_TOKEN="$(cat ~/.token)"',
        "export HF_TOKEN=`pass show hf`",
        "export HF_TOKEN_PATH=/shared/token",
        "export HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
        "export TOKENIZERS_PARALLELISM=false",
        "module load cuda/12.4",
        "source /opt/venv/bin/activate",
        "apptainer exec --nv --bind /data:/data /shared/vllm.sif",
        "--exclusive",
        "--key-file /etc/key",
        "ssh -u me host",
        "unset HF_TOKEN",
        'curl -H "Authorization: Bearer $HF_TOKEN" http://host',
        "git clone git+ssh://git@github.com/a/b",
        "apptainer exec docker://vllm:v1@sha256:0123456789abcdef x",
        "export HF_TOKEN=$(cat /shared/token)",
        "export HF_TOKEN=$(<~/.token)",
        "export HF_TOKEN=${HF_TOKEN:-$OTHER}",
        "export HF_TOKEN=${HF_TOKEN:?}",
        "export HF_TOKEN=$(echo $OTHER | tr -d x)",
        "read -r HF_TOKEN < ~/.token",
        "read -r HF_TOKEN <<< $OTHER",
        "printf -v HF_TOKEN '%s' \"$OTHER\"",
        "setenv HF_TOKEN $OTHER",
        "export PRIMARY_KEY=problem_id SORT_KEY=created_at",
        "export TLS_KEY=/etc/ssl/private/key.pem",
        "export GOOGLE_APPLICATION_CREDENTIALS=/shared/credentials.json",
        "wandb login",
        "wandb login --relogin",
        "wandb login $WANDB_API_KEY",
        "hf auth login --token $HF_TOKEN",
        "docker login -u me -p $PW host",
        "docker login --password-stdin host < ~/.token",
        "docker run -u 1000:1000 x",
        'curl -u "$USER:$PW" http://host',
        "echo $HF_TOKEN > ~/.cache/huggingface/token",
        "echo hello | tee log",
        "mysql -p -P 3306",
        "git config credential.helper store",
        "export MAX_TOKENS=100 TOKEN_LIMIT_PER_MINUTE=1000 PASSAGE=abc",
        "export GIT_ASKPASS=/usr/bin/x",
        "python train.py --max-tokens 100 --sort-key created_at --use-auth",
        "set -euo pipefail",
        "ulimit -n 65536; umask 077",
    ],
)
def test_what_only_names_a_secret_is_accepted(line: str) -> None:
    assert found_in_shell(line) is None
    EnvironmentSettings(setup=(line,))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWD", "x"),
        ("GH_PAT", "x"),
        ("MY_CREDENTIALS", "x"),
        ("DB_PASS", "x"),
        ("SERVER", "sk-proj-1234567890abc"),
        ("PIP_INDEX_URL", "https://me:pw@host/simple"),
        ("VLLM_ARGS", "--api-key abc"),
        ("DBPASS", "x"),
        ("PASSWORD2", "x"),
        ("HF_TOKEN", "/planted/0123abc"),
        ("HF_TOKEN", "$planted0123abc"),
        ("HF_TOKEN", "$HF_TOKEN"),
        ("HF_TOKEN", "`planted`"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/p1"),
        ("DB", "Server=x;Password=planted;"),
        ("DB", "DefaultEndpointsProtocol=https;AccountKey=planted==;"),
        ("http_proxy", "me:planted@proxy:8080"),
    ],
)
def test_secrets_among_the_variables_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EnvironmentSettings(variables={name: value})
    assert "variables" in str(caught.value.errors()[0]["msg"])


def test_variables_without_secrets_are_accepted() -> None:
    variables = {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_TOKEN_PATH": "/shared/t",
        "HF_HOME": "/x",
        "PRIMARY_KEY": "problem_id",
        "EOS_TOKEN": "<|im_end|>",
        "TURN_TOKEN": "<|im_end|>",
        "TLS_KEY": "/etc/ssl/private/key.pem",
        "MAX_TOKENS": "100",
        "PASSAGE": "It was the best of times",
        "https_proxy": "http://proxy.example.com:8080",
    }
    assert EnvironmentSettings(variables=variables).variables == variables


@pytest.mark.parametrize(
    "section",
    [
        {"openai": {"base_url": "https://user:plantedpass@127.0.0.1:1/v1"}},
        {"openai": {"base_url": "https://127.0.0.1:1/v1?api_key=planted"}},
        {"openai": {"base_url": "https://127.0.0.1:1/v1?x=1&access_token=planted"}},
        {"storage": "s3://AKIAIOSFODNN7EXAMPLE:secret@bucket/runs"},
        {"storage": "https://host/runs?sig=planted"},
        {"ray": {"address": "ray://me:planted@head:10001"}},
        {"train": {"rollouts_url": "http://me:planted@host:8000"}},
        {"launcher": {"api_token": "planted"}},
        {"launcher": {"login": {"user": "me", "password": "planted"}}},
        {"launcher": {"headers": {"x": "Bearer ghp_0123456789abcdefABCDEF"}}},
        {"about": "with hf_aB3dE6gH9kL2mN5pQ8rS"},
    ],
)
def test_a_cluster_file_with_a_secret_is_refused_and_not_quoted(
    section: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(_toml(section))
    with pytest.raises(ConfigError) as caught:
        load_cluster(path)
    message = str(caught.value)
    assert "environment" in message or "shell" in message
    assert "planted" not in message.replace("plantedpass@", "") and "hf_a" not in message


def _toml(section: dict[str, object]) -> str:
    lines: list[str] = []
    for name, value in section.items():
        lines.append(f"{name} = {_inline(value)}")
    return "\n".join(lines)


def _inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = [f"{name} = {_inline(inner)}" for name, inner in value.items()]
        return "{ " + ", ".join(pairs) + " }"
    return json.dumps(value)


PLANTED_URLS = """
    http://u:pl'anted@127.0.0.1:1/v1 http://u:pl"anted@127.0.0.1:1/v1 http://u:p<lanted@h/v1
    http://planted@h/v1 http://u:planted%40@h/v1 //user:planted@127.0.0.1:1/v1
    user:planted@127.0.0.1:1/v1 http://u:p/lanted@127.0.0.1:1/v1 http://u:p?lanted@h/v1
    http://u:p#lanted@h/v1 http:\\\\u:planted@h/v1 u:planted@h http://h/v1?k=planted01
    http://h/v1?code=planted01 http://h/v1?planted01 http://h/v1?api-version=planted01
    http://h/v1?key=1 http://h/v1#planted01 http://h/sk-planted0123456789/v1 ftp://h/v1
    127.0.0.1:8000/v1 localhost:8000 http:///v1 http://h:0/v1
"""


@pytest.mark.parametrize("url", PLANTED_URLS.split())
def test_a_base_url_that_is_more_than_an_address_is_refused_when_the_file_is_read(
    url: str, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(f"[openai]\nbase_url = {json.dumps(url)}\n")
    with pytest.raises(ConfigError, match="base_url") as caught:
        load_cluster(path)
    assert "lanted" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "HTTP://localhost:8000/v1/",
        "http://[::1]:8000/v1",
        "https://x.openai.azure.com/openai/deployments/gpt-4o?api-version=2024-02-01",
        "https://x.openai.azure.com/openai?api-version=2025-04-01-preview",
        "https://gateway.example.com/v1/0123456789abcdef0123456789abcdef/openai",
        "https://host/v1/@me",
    ],
)
def test_a_base_url_that_is_an_address_is_accepted(url: str) -> None:
    assert OpenAISettings(base_url=url).base_url == url


@pytest.mark.parametrize(
    "section",
    [
        {"ray": {"address": "me:planted@head:6379"}},
        {"ray": {"address": "ray://me:pl'anted@head:6379"}},
        {"train": {"rollouts_url": "me:planted@host:8000"}},
        {"train": {"rollouts_url": "//me:planted@host:8000"}},
    ],
)
def test_other_addresses_with_a_password_are_refused_and_not_quoted(
    section: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(_toml(section))
    with pytest.raises(ConfigError, match="secret|environment alone") as caught:
        load_cluster(path)
    assert "anted" not in str(caught.value)


def test_base_url_says_what_to_do_instead() -> None:
    with pytest.raises(ValidationError, match="export OPENAI_BASE_URL"):
        OpenAISettings(base_url="https://user:plantedpass@host/v1")


@pytest.mark.parametrize(
    "override",
    [
        'traces.teachers.0.request={ extra_headers = { Authorization = "Bearer x" } }',
        'traces.teachers.0.request={ token = "x" }',
        'traces.teachers.0.template_options={ api_key = "x" }',
        'traces.teachers.0.request={ user = "sk-proj-1234567890abc" }',
        "problems.dataset=https://me:pw@host/data",
        "traces.teachers.0.model=https://host/model?token=abc",
        "about=with hf_aB3dE6gH9kL2mN5pQ8rS",
    ],
)
def test_a_pipeline_file_with_a_secret_is_refused(override: str) -> None:
    values: dict[str, object] = {
        "name": "a",
        "problems": {"source": "file", "dataset": "p.jsonl"},
        "traces": {"max_tokens": 9, "teachers": [{"model": "m", "sampler": "openai"}]},
    }
    with pytest.raises(ConfigError, match="secret|environment alone"):
        make_pipeline(values, [override], source=Path("file.toml"))


def test_fields_of_requests_that_are_no_secrets_are_sent() -> None:
    fields = {"prompt_cache_key": "a", "add_bos_token": True, "stop_token_ids": [1]}
    model = SampledModel(model="m", sampler="openai", request=fields)
    assert model.request == fields


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen3-8B",
        "org/sk-multilingual-corpus",
        "https://huggingface.co/datasets/openai/gsm8k?row=1",
        "s3://bucket/runs",
        "sftp://me@host/runs",
        "ray://head:10001",
        "What is 3 + 4? Ask me@example.com: yes",
    ],
)
def test_names_and_addresses_without_secrets_are_accepted(text: str) -> None:
    assert found_in(text) is None


@pytest.mark.parametrize(
    "line",
    [
        "export OPENAI_API_KEY=EMPTY",
        "export OPENAI_API_KEY='dummy'",
        "srun --auth munge python x.py",
        "sort --key 3 a.txt",
        "curl --cookie-jar FILE http://host",
        "pip install --user foo:bar",
        "docker run -u me:staff image",
        "export SIG=15",
        "# token: x",
        "echo sk-distill-qwen2-5-math sk-learn-1-4-pipeline",
    ],
)
def test_what_is_no_secret_may_stand_in_a_file(line: str) -> None:
    assert found_in_shell(line) is None
    assert cleaned(line) == line
