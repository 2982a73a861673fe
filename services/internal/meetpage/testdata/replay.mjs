// Replays what the Go client did with the page's client, and wants the same
// frames, messages and state after each step: node replay.mjs RECORD SESSION.MJS
import { readFileSync } from "node:fs";
const { Client } = await import(process.argv[3]);
let steps = 0;
for (const run of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const secrets = run.secrets.values();
  const secret = () => secrets.next().value;
  let c;
  run.steps.forEach((s, i) => {
    steps++;
    let out = [], message = "";
    switch (s.do) {
      case "begin": c = new Client({ ticket: s.text }, s.at, secret); break;
      case "restore": c = new Client({ saved: c.save() }, s.at, secret); break;
      case "up": c.up(s.at); break;
      case "down": c.down(s.link, s.at); break;
      case "send": c.send(JSON.parse(s.text)); break;
      case "receive": {
        const m = c.receive(s.link, s.text || "", s.at);
        if (m) message = JSON.stringify(m);
        break;
      }
      case "poll": out = c.poll(s.at); break;
      default: throw new Error("step " + s.do);
    }
    const got = JSON.stringify({ out, message, closed: c.closed, open: c.open, wants: c.wants, next: c.next() });
    const want = JSON.stringify({ out: s.out || [], message: s.message || "", closed: s.closed || "", open: !!s.open, wants: !!s.wants, next: s.next || 0 });
    if (got !== want) {
      console.log(`run ${run.name}, step ${i} ${JSON.stringify(s)}:\n got ${got}\nwant ${want}`);
      process.exit(1);
    }
  });
}
console.log(steps);
