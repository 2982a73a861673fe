-- Live state of appliances, history, alerts.
CREATE TABLE appliance_live (
  appliance_id TEXT PRIMARY KEY REFERENCES appliances(id) ON DELETE CASCADE,
  zone_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  role TEXT NOT NULL,
  host TEXT NOT NULL,
  version TEXT NOT NULL,
  status TEXT NOT NULL,             -- JSON of link.Status
  contact BIGINT NOT NULL,          -- of its last word
  instance TEXT NOT NULL            -- that holds its link
);
CREATE INDEX appliance_live_account ON appliance_live (account_id);
CREATE INDEX appliance_live_zone ON appliance_live (zone_id);
CREATE TABLE appliance_events (     -- the last number taken of each start
  appliance_id TEXT NOT NULL REFERENCES appliances(id) ON DELETE CASCADE,
  boot TEXT NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (appliance_id, boot)
);
CREATE TABLE samples (              -- history
  appliance_id TEXT NOT NULL REFERENCES appliances(id) ON DELETE CASCADE,
  at BIGINT NOT NULL,               -- begin of the step
  step BIGINT NOT NULL,             -- seconds: 60 or 900
  meetings BIGINT NOT NULL,         -- highest of the step, as all below
  participants BIGINT NOT NULL,
  cpu BIGINT NOT NULL,              -- thousandths
  send_bits BIGINT NOT NULL,
  PRIMARY KEY (appliance_id, step, at)
);
CREATE INDEX samples_at ON samples (step, at);
CREATE TABLE alerts (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL,
  zone_id TEXT NOT NULL,
  appliance_id TEXT NOT NULL REFERENCES appliances(id) ON DELETE CASCADE,
  code TEXT NOT NULL,
  detail TEXT NOT NULL,
  opened BIGINT NOT NULL,
  closed BIGINT NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX alerts_open ON alerts (appliance_id, code) WHERE closed = 0;
CREATE INDEX alerts_account ON alerts (account_id, opened);
CREATE INDEX alerts_appliance ON alerts (appliance_id, closed);
