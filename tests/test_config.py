"""Configuration: file, environment, command line."""

from pathlib import Path

import pytest

from inferd.config import Config, ConfigError, load


def test_defaults_need_nothing() -> None:
    """An empty environment gives a loopback server under the user's data directory."""
    config = load(environ={"HOME": "/h"})
    assert (config.http.host, config.http.port, config.data_dir) == (
        "127.0.0.1",
        9200,
        "/h/.local/share/inferd",
    )
    assert config.security.enabled


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    """File, then environment, then overrides; each only what it names."""
    file = tmp_path / "inferd.toml"
    file.write_text(
        'data_dir = "/d"\n[http]\nport = 1\nhost = "h"\n[services.openai]\nbase_url = "http://o"\n'
    )
    config = load(str(file), {"http": {"port": 3}}, {"INFERD_HTTP__PORT": "2", "INFERD_LOG__LEVEL": "debug"})
    assert (config.http.port, config.http.host, config.log.level, config.data_dir) == (3, "h", "debug", "/d")
    assert config.base_url("openai") == "http://o"


def test_services_are_reached_by_environment() -> None:
    """Letter case and the hyphen of a service's name do not matter."""
    env = {"INFERD_SERVICES__ALIBABACLOUD_AI_SEARCH__BASE_URL": "http://a", "INFERD_MODELS_DIR": "/m"}
    config = load(environ=env)
    assert config.base_url("alibabacloud-ai-search") == "http://a"
    assert config.models_path == Path("/m")


def test_values_are_converted() -> None:
    """Booleans, numbers, maps as JSON, lists by comma."""
    env = {
        "INFERD_SECURITY__ENABLED": "false",
        "INFERD_HTTP__DRAIN": "1.5",
        "INFERD_MODELS__ALIASES": '{".elser_model_2": "x"}',
        "INFERD_OUTBOUND__ALLOW": "169.254.1.0/24, metadata",
    }
    config = load(environ=env)
    assert config.security.enabled is False
    assert config.http.drain == 1.5
    assert config.models.aliases == {".elser_model_2": "x"}
    assert config.outbound.allow == ("169.254.1.0/24", "metadata")


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"INFERD_HTTP__PORT": "x"}, "http.port"),
        ({"INFERD_NOPE": "1"}, "nope"),
        ({"INFERD_HTTP": "1", "INFERD_HTTP__PORT": "1"}, "http"),
    ],
)
def test_a_bad_setting_is_named(env: dict[str, str], said: str) -> None:
    """The message names the setting."""
    with pytest.raises(ConfigError, match=said):
        load(environ=env)


@pytest.mark.parametrize("text", ["= 1", "\x00", "[http]\nprot = 1\n"])
def test_a_bad_file_is_an_error(tmp_path: Path, text: str) -> None:
    """Broken TOML and unknown settings are refused."""
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load(str(file), environ={})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[http]\n# port = 1\nhost = 'h'\nport = 'x'\n", 4, "setting [http.port]: Expected `int`, got `str`"),
        ("http.host = 'h'\nhttp.prot = 1\n", 2, "unknown setting [http.prot]; did you mean [http.port]?"),
        ("[log]\n\n[htpp]\nport = 1\n", 3, "unknown setting [htpp]; did you mean [http]?"),
        (
            "[ models . 'aliases' ]\n\".x\" = 1\n",
            1,
            "setting [models.aliases[...]]: Expected `str`, got `int`",
        ),
        ("api = {version = 'x'}\nhttp = {port = 'x'}\n", 2, "setting [http.port]: Expected `int`, got `str`"),
        ("[services.openai]\nbase = 'x'\n", 2, "unknown setting [services.openai.base]; did you mean"),
    ],
)
def test_a_bad_setting_of_a_file_is_found(tmp_path: Path, text: str, line: int, said: str) -> None:
    """The file, the line of the setting (or of the table that holds it), and what is wrong."""
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file), environ={"INFERD_HTTP__DRAIN": "1"})
    assert str(caught.value).startswith(f"configuration file {file}, line {line}: {said}")


def test_what_wins_is_blamed(tmp_path: Path) -> None:
    """A variable over the file, the command line over both."""
    file = tmp_path / "c.toml"
    file.write_text("[http]\nport = 1\n")
    env = {"inferd_http__PORT": "x"}
    with pytest.raises(ConfigError, match=r"^inferd_http__PORT: setting \[http\.port\]"):
        load(str(file), environ=env)
    with pytest.raises(ConfigError, match=r"^setting \[http\.port\]"):
        load(str(file), {"http": {"port": "y"}}, env)


def test_a_missing_file_is_an_error() -> None:
    """With its name."""
    with pytest.raises(ConfigError, match=r"/does/not/exist\.toml"):
        load("/does/not/exist.toml", environ={})


def test_secrets_do_not_print() -> None:
    """Passwords, keys and cloud credentials are Secrets."""
    env = {
        "INFERD_SECRET_KEY": "k" * 32,
        "ELASTIC_PASSWORD": "pass-word",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
    }
    config = load(environ=env)
    shown = repr(config)
    assert not any(value in shown for value in env.values())
    assert config.secret_key is not None
    assert config.secret_key.reveal() == "k" * 32
    assert isinstance(config, Config)
