-- Zones, what is enrolled in them, and their keys.
CREATE TABLE zones (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts(id),
  name TEXT NOT NULL,
  created BIGINT NOT NULL,
  generation BIGINT NOT NULL DEFAULT 1, -- of the configuration that appliances get
  UNIQUE (account_id, name)
);
CREATE TABLE zone_users (           -- who may host in a zone; no row: everybody of its account
  zone_id TEXT NOT NULL REFERENCES zones(id) ON DELETE CASCADE,
  what TEXT NOT NULL,               -- account (a sub-account), group, user
  id TEXT NOT NULL,
  PRIMARY KEY (zone_id, what, id)
);
CREATE TABLE appliances (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts(id),
  zone_id TEXT NOT NULL REFERENCES zones(id),
  role TEXT NOT NULL,               -- controller, router
  name TEXT NOT NULL,               -- of the host
  public_name TEXT NOT NULL DEFAULT '', -- that browsers use; controllers alone
  external TEXT NOT NULL DEFAULT '[]', -- JSON list of addresses seen from outside
  version TEXT NOT NULL DEFAULT '',  -- of the appliance, when it was enrolled
  serial TEXT NOT NULL,             -- of the certificate in use, hexadecimal
  previous TEXT NOT NULL DEFAULT '', -- of those before it that are good, the newest first, with spaces between
  expires BIGINT NOT NULL,          -- of that certificate
  enrolled BIGINT NOT NULL,
  revoked BIGINT NOT NULL DEFAULT 0,
  token_id TEXT NOT NULL            -- that it was enrolled with
);
CREATE INDEX appliances_zone ON appliances (zone_id);
CREATE TABLE enrol_tokens (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts(id),
  zone_id TEXT NOT NULL REFERENCES zones(id) ON DELETE CASCADE,
  title TEXT NOT NULL,
  sum TEXT NOT NULL UNIQUE,         -- SHA-256 of the secret, hexadecimal
  created_by TEXT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,          -- 0: never
  revoked BIGINT NOT NULL DEFAULT 0,
  used BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE zone_keys (            -- the zone's authority
  id TEXT PRIMARY KEY,
  zone_id TEXT NOT NULL REFERENCES zones(id) ON DELETE CASCADE,
  certificate {{blob}} NOT NULL,    -- DER
  key {{blob}} NOT NULL,            -- PKCS #8, sealed
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL
);
