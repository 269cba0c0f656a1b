// Hands in one message by nodemailer: MODULE HOST PORT none|starttls|implicit CA NAME USER PASSWORD TO FILE.
const fs = require('fs');
const [module_, host, port, mode, ca, name, user, pass, to, file] = process.argv.slice(2);
const nodemailer = require(module_);

const transport = nodemailer.createTransport({
  host,
  port: Number(port),
  name: 'app.sealpost.test',
  secure: mode === 'implicit',
  requireTLS: mode === 'starttls',
  ignoreTLS: mode === 'none',
  auth: user ? { user, pass } : undefined,
  tls: mode === 'none' ? undefined : { ca: fs.readFileSync(ca), servername: name },
});
transport
  .sendMail({ envelope: { from: 'a@sealpost.test', to: [to], use8BitMime: true }, raw: fs.readFileSync(file) })
  .then((info) => {
    if (info.rejected.length > 0) throw new Error('rejected: ' + info.rejected);
    transport.close();
  })
  .catch((err) => {
    console.error(err);
    process.exit(1);
  });
