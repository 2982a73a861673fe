-- Meetings, and the keys of tickets.
CREATE TABLE ticket_keys (          -- of the portal; the newest that may sign does
  id TEXT PRIMARY KEY,              -- "kid" of tickets
  public {{blob}} NOT NULL,         -- Ed25519
  key {{blob}} NOT NULL,            -- its seed, sealed
  created BIGINT NOT NULL,          -- and published
  signs BIGINT NOT NULL             -- from when
);
CREATE TABLE meetings (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
  host_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  kind TEXT NOT NULL,               -- scheduled, instant, room
  number TEXT NOT NULL UNIQUE,      -- 9 to 11 digits
  topic TEXT NOT NULL,
  agenda TEXT NOT NULL DEFAULT '',
  wall TEXT NOT NULL DEFAULT '',    -- first start by the clocks of timezone, 2006-01-02T15:04
  timezone TEXT NOT NULL DEFAULT 'UTC', -- IANA name
  duration BIGINT NOT NULL DEFAULT 0,   -- minutes
  rule TEXT NOT NULL DEFAULT '',    -- RRULE (RFC 5545) whose UNTIL is by those clocks too; '' is once
  first BIGINT NOT NULL DEFAULT 0,  -- start of the first occurrence; 0: a room
  last BIGINT NOT NULL DEFAULT 0,   -- end of the last one
  zone_id TEXT REFERENCES zones(id) ON DELETE SET NULL, -- null: chosen when it starts
  auto_zone TEXT NOT NULL DEFAULT '', -- that was chosen
  auto_at BIGINT NOT NULL DEFAULT 0,  -- when
  passcode {{blob}} NOT NULL,       -- sealed
  waiting_room BOOLEAN NOT NULL,
  join_before BOOLEAN NOT NULL,
  sequence BIGINT NOT NULL DEFAULT 0, -- of its calendar file (RFC 5545, 3.8.7.4)
  created BIGINT NOT NULL,
  changed BIGINT NOT NULL
);
CREATE INDEX meetings_host ON meetings (host_id, last);
CREATE INDEX meetings_account ON meetings (account_id, last);
CREATE UNIQUE INDEX meetings_room ON meetings (host_id) WHERE kind = 'room';
CREATE TABLE meeting_hosts (        -- alternative ones
  meeting_id TEXT NOT NULL REFERENCES meetings(id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  PRIMARY KEY (meeting_id, user_id)
);
CREATE INDEX meeting_hosts_user ON meeting_hosts (user_id);
CREATE TABLE meeting_changes (      -- single occurrences that are not as the rule has them
  meeting_id TEXT NOT NULL REFERENCES meetings(id) ON DELETE CASCADE,
  at BIGINT NOT NULL,               -- start by the rule
  cancelled BOOLEAN NOT NULL,
  topic TEXT NOT NULL DEFAULT '',   -- '' is the meeting's
  start BIGINT NOT NULL DEFAULT 0,
  duration BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (meeting_id, at)
);
CREATE TABLE meeting_runs (         -- what controllers tell of meetings that were held
  id TEXT PRIMARY KEY,              -- by the controller
  meeting_id TEXT NOT NULL REFERENCES meetings(id) ON DELETE CASCADE,
  zone_id TEXT NOT NULL,            -- which may have gone
  started BIGINT NOT NULL,
  ended BIGINT NOT NULL DEFAULT 0,
  peak BIGINT NOT NULL DEFAULT 0    -- most participants at a time
);
CREATE INDEX meeting_runs_meeting ON meeting_runs (meeting_id, started);
