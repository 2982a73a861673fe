// The page's own figures, which the router keeps with the meeting.

/** @typedef {{at: number, sent: number, received: number, packets: number, lost: number, freezes: number}} Sums */

/** Figures since the last ones, as Stats of package signal has them.
 * @param {RTCStatsReport} report @param {Sums | null} before */
export function figures(report, before) {
  /** @type {Sums} */
  const sums = { at: performance.now(), sent: 0, received: 0, packets: 0, lost: 0, freezes: 0 };
  let rtt = 0, jitter = 0, upLoss = 0, relayed = false, protocol = "";
  /** @type {any} */
  let pair;
  /** @type {Map<string, any>} */
  const all = new Map();
  report.forEach((s) => all.set(s.id, s));
  for (const s of all.values()) {
    switch (s.type) {
      case "transport":
        sums.sent += s.bytesSent || 0;
        sums.received += s.bytesReceived || 0;
        pair = all.get(s.selectedCandidatePairId);
        break;
      case "inbound-rtp":
        sums.packets += s.packetsReceived || 0;
        sums.lost += Math.max(0, s.packetsLost || 0);
        sums.freezes += s.freezeCount || 0;
        if (s.kind === "audio") jitter = Math.max(jitter, 1000 * (s.jitter || 0));
        break;
      case "remote-inbound-rtp":
        upLoss = Math.max(upLoss, Math.min(1, Math.max(0, s.fractionLost || 0)));
        break;
    }
  }
  for (const s of all.values()) if (!pair && s.type === "candidate-pair" && s.nominated && s.state === "succeeded") pair = s; // browsers without "transport"
  if (pair) {
    if (!sums.sent) { sums.sent = pair.bytesSent || 0; sums.received = pair.bytesReceived || 0; }
    rtt = 1000 * (pair.currentRoundTripTime || 0);
    const local = all.get(pair.localCandidateId) || {};
    relayed = local.candidateType === "relay";
    protocol = relayed ? local.relayProtocol || "" : local.protocol || "";
  }
  const seconds = before ? Math.max(0.1, (sums.at - before.at) / 1000) : 1;
  /** @param {keyof Sums} k */
  const since = (k) => Math.max(0, sums[k] - (before ? before[k] : 0));
  const came = since("packets"), lost = since("lost");
  const stats = {
    rtt, upBits: (8 * since("sent")) / seconds, downBits: (8 * since("received")) / seconds, upLoss,
    downLoss: came + lost > 0 ? lost / (came + lost) : 0, jitter, freezes: since("freezes"), relayed,
    protocol: ["udp", "tcp", "tls"].includes(protocol) ? protocol : "",
  };
  return { stats, sums };
}
