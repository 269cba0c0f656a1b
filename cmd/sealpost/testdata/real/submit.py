"""Hands in one message by Python's smtplib: HOST PORT none|starttls|implicit CA NAME USER PASSWORD TO FILE."""
import smtplib
import socket
import ssl
import sys

host, port, mode, ca, name, user, password, to, file = sys.argv[1:]


class Named:
    """Connects to the address, and verifies the certificate for the name."""

    def _get_socket(self, _host, port, timeout):
        sock = socket.create_connection((host, port), timeout)
        if mode == "implicit":
            sock = self.context.wrap_socket(sock, server_hostname=name)
        return sock


class Plain(Named, smtplib.SMTP):
    pass


class Implicit(Named, smtplib.SMTP_SSL):
    pass


context = ssl.create_default_context(cafile=ca)
if mode == "implicit":
    smtp = Implicit(name, int(port), local_hostname="app.sealpost.test", timeout=30, context=context)
else:
    smtp = Plain(name, int(port), local_hostname="app.sealpost.test", timeout=30)
if mode == "starttls":
    smtp.starttls(context=context)
if user:
    smtp.login(user, password)
with open(file, "rb") as f:
    refused = smtp.sendmail("a@sealpost.test", [to], f.read(), mail_options=["BODY=8BITMIME"])
if refused:
    sys.exit(f"refused: {refused}")
smtp.quit()
