"""A real mail server of the tests' own: Debian's exim4 delivers into a Maildir, and dovecot shows it.

Both run without privileges: as the owner of the tests, or as exim's user where that is root, which neither serves mail as.
"""

import contextlib
import grp
import os
import pwd
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.program import program
from tests.servers.backends import CANARY
from tests.servers.certificates import Issued
from tests.servers.process import free_port, running
from tests.servers.web import Behaviour, Exchange

USER = "watcher"
DOMAIN = "shop.test"


@dataclass(frozen=True)
class Mail:
    """Where they listen."""

    directory: Path
    smtp_port: int
    smtps_port: int
    imap_port: int
    imaps_port: int

    @property
    def smtp(self) -> str:
        """With STARTTLS."""
        return f"127.0.0.1:{self.smtp_port}"

    @property
    def smtps(self) -> str:
        """With TLS from the first byte."""
        return f"127.0.0.1:{self.smtps_port}"

    @property
    def imap(self) -> str:
        """With STARTTLS."""
        return f"127.0.0.1:{self.imap_port}"

    @property
    def imaps(self) -> str:
        """With TLS from the first byte."""
        return f"127.0.0.1:{self.imaps_port}"

    def messages(self) -> list[Path]:
        """What lies in the mailbox."""
        return [path for part in ("new", "cur") for path in (self.directory / "mail" / part).glob("*")]

    def put(self, message: bytes, name: str) -> Path:
        """Lay a message into the mailbox."""
        new = self.directory / "mail" / "new"
        path = new / name
        path.write_bytes(message)
        shutil.chown(path, *_owner())
        return path

    def empty(self) -> None:
        """Take all messages away."""
        for path in self.messages():
            path.unlink()


@contextlib.contextmanager
def mail_server(issued: Issued) -> Generator[Mail]:
    """Takes mail for `shop.test` from anybody, and nothing else; a login only in TLS."""
    user, group = _owner()
    with tempfile.TemporaryDirectory(prefix="stormwatch-mail-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        mail = Mail(directory, free_port(), free_port(), free_port(), free_port())
        for part in ("spool", "log", "mail", "mail/new", "mail/cur", "mail/tmp", "run", "state", "home"):
            (directory / part).mkdir()
        shutil.copy(issued.chain_file, directory / "cert.pem")
        shutil.copy(issued.key_file, directory / "key.pem")
        (directory / "exim.conf").write_text(_exim(mail))
        (directory / "dovecot.conf").write_text(_dovecot(mail, user, group))
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, user, group)
        exim = _as_owner([program("exim4"), "-C", str(directory / "exim.conf"), "-bdf", "-q1m"])
        dovecot = _as_owner([program("dovecot"), "-F", "-c", str(directory / "dovecot.conf")])
        with (
            running(exim, log=directory / "exim.out", port=mail.smtp_port),
            running(dovecot, log=directory / "dovecot.out", port=mail.imap_port),
        ):
            yield mail


def _owner() -> tuple[str, str]:
    who = pwd.getpwuid(os.geteuid()) if os.geteuid() != 0 else pwd.getpwnam("Debian-exim")
    return who.pw_name, grp.getgrgid(who.pw_gid).gr_name


def _as_owner(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    user, group = _owner()
    return ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--", *command]


def _exim(mail: Mail) -> str:
    at = mail.directory
    return f"""\
primary_hostname = mx.{DOMAIN}
spool_directory = {at}/spool
log_file_path = {at}/log/%slog
pid_file_path = {at}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {mail.smtp_port} : {mail.smtps_port}
tls_on_connect_ports = {mail.smtps_port}
tls_advertise_hosts = *
tls_certificate = {at}/cert.pem
tls_privatekey = {at}/key.pem
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}{{}}}}
deliver_drop_privilege = true
never_users =
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
message_size_limit = 1M
keep_environment =
acl_smtp_rcpt = recipient
acl_smtp_data = content

begin acl

recipient:
  deny    !domains = {DOMAIN}
          message = relay not permitted
  defer   local_parts = grey
          message = greylisted, come back later
  accept

content:
  deny    condition = ${{if match{{$message_body}}{{NOT-A-REAL-VIRUS}}}}
          message = this message has a virus
  accept

begin routers

lost:
  driver = redirect
  local_parts = lost
  data = :blackhole:
  allow_fail

mailbox:
  driver = accept
  transport = mailbox

begin transports

mailbox:
  driver = appendfile
  maildir_format
  directory = {at}/mail
  return_path_add
  delivery_date_add

begin authenticators

plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{CANARY}}}}}}}}}
  server_set_id = $auth2

login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{USER}}}}}{{eq{{$auth2}}{{{CANARY}}}}}}}}}
  server_set_id = $auth1
"""


def _dovecot(mail: Mail, user: str, group: str) -> str:
    at = mail.directory
    said = subprocess.run([program("dovecot"), "--version"], check=True, capture_output=True, text=True).stdout
    version = re.match(r"(\d+)\.(\d+)", said)
    assert version is not None, said
    who = pwd.getpwnam(user)
    if (int(version[1]), int(version[2])) >= (2, 4):
        words = f"""\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
ssl_server_cert_file = {at}/cert.pem
ssl_server_key_file = {at}/key.pem
auth_allow_cleartext = no
mail_driver = maildir
mail_path = {at}/mail
mail_home = {at}/home
mail_uid = {who.pw_uid}
mail_gid = {who.pw_gid}
passdb static {{
  password = {CANARY}
}}
userdb static {{
}}
protocols {{
  imap = yes
}}
"""
    else:
        words = f"""\
ssl_cert = <{at}/cert.pem
ssl_key = <{at}/key.pem
disable_plaintext_auth = yes
mail_location = maildir:{at}/mail
passdb {{
  driver = static
  args = password={CANARY}
}}
userdb {{
  driver = static
  args = uid={who.pw_uid} gid={who.pw_gid} home={at}/home
}}
protocols = imap
"""
    return f"""\
{words}
base_dir = {at}/run
state_dir = {at}/state
log_path = {at}/dovecot.log
listen = 127.0.0.1, 127.0.0.2
ssl = yes
auth_mechanisms = plain login
auth_failure_delay = 0s
first_valid_uid = 1
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
mail_max_userip_connections = 100
service imap-login {{
  chroot =
  service_count = 0
  inet_listener imap {{
    port = {mail.imap_port}
  }}
  inet_listener imaps {{
    port = {mail.imaps_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


def smtp_script(
    replies: Mapping[str, str], *, greeting: str = "220 mx.shop.test ESMTP", context: ssl.SSLContext | None = None
) -> Behaviour:
    """A server that answers each command, by its first word, as it is told; `MESSAGE` is the end of DATA.

    What is not told is done. A reply may have several lines; an empty one is none at all. After `STARTTLS` TLS begins.
    """
    known = {
        "EHLO": "250-mx.shop.test\r\n250 STARTTLS",
        "DATA": "354 go on",
        "QUIT": "221 bye",
        "STARTTLS": "220 go on",
    }

    async def behave(exchange: Exchange) -> None:
        reader, writer = exchange.reader, exchange.writer
        writer.write(greeting.encode() + b"\r\n")
        while line := await reader.readline():
            word = line.split()[0].decode().upper() if line.split() else ""
            reply = replies.get(word, known.get(word, "250 done"))
            if reply:
                writer.write(reply.encode() + b"\r\n")
            if word == "STARTTLS" and reply.startswith("220") and context is not None:
                await writer.start_tls(context)
            if word == "DATA" and reply.startswith("354"):
                await reader.readuntil(b"\r\n.\r\n")
                if ended := replies.get("MESSAGE", "250 taken"):
                    writer.write(ended.encode() + b"\r\n")
            if word == "QUIT":
                return

    return behave


def imap_script(
    answers: Mapping[str, str], *, greeting: str = "* OK ready", context: ssl.SSLContext | None = None
) -> Behaviour:
    """A server that answers each command, by its words after the tag, as it is told: the longest beginning counts.

    `{tag}` in an answer is the command's tag. What is not told is OK; an empty answer is none at all.
    """
    known = {"CAPABILITY": "* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK done"}

    async def behave(exchange: Exchange) -> None:
        reader, writer = exchange.reader, exchange.writer
        writer.write(greeting.encode() + b"\r\n")
        tag = ""
        while line := (await reader.readline()).decode():
            first, _, command = line.strip().partition(" ")
            if command:
                tag = first
            said = {**known, **answers}
            best = max((each for each in said if (command or first).upper().startswith(each)), key=len, default="")
            answer = said.get(best, "{tag} OK done").replace("{tag}", tag)
            if answer:
                writer.write(answer.encode() + b"\r\n")
            if command == "STARTTLS" and f"{tag} OK" in answer and context is not None:
                await writer.start_tls(context)

    return behave
