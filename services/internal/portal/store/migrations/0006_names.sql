-- Names and certificates of controllers.
CREATE TABLE name_settings (        -- how an account orders certificates (ACME)
  account_id TEXT PRIMARY KEY REFERENCES accounts(id) ON DELETE CASCADE,
  directory TEXT NOT NULL,          -- URL of the authority
  email TEXT NOT NULL,
  terms BOOLEAN NOT NULL,           -- its terms are accepted; without them nothing is ordered
  method TEXT NOT NULL,             -- http-01, dns-01
  server TEXT NOT NULL,             -- of dns-01: HOST:PORT for updates (RFC 2136)
  zone TEXT NOT NULL,
  key_name TEXT NOT NULL,           -- of TSIG (RFC 8945)
  algorithm TEXT NOT NULL,
  secret {{blob}}                   -- sealed
);
CREATE TABLE name_accounts (        -- accounts at authorities
  account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
  directory TEXT NOT NULL,
  key {{blob}} NOT NULL,            -- PKCS #8, sealed
  location TEXT NOT NULL DEFAULT '', -- URL; '': not registered yet
  PRIMARY KEY (account_id, directory)
);
CREATE TABLE name_orders (
  appliance_id TEXT PRIMARY KEY REFERENCES appliances(id) ON DELETE CASCADE,
  account_id TEXT NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  csr {{blob}} NOT NULL,            -- PKCS #10, DER
  state TEXT NOT NULL,              -- asked, ordering, failed, good
  problem TEXT NOT NULL DEFAULT '', -- of the last try
  tries BIGINT NOT NULL DEFAULT 0,  -- that failed, one after another
  try_after BIGINT NOT NULL DEFAULT 0,
  claimed_by TEXT NOT NULL DEFAULT '',
  claimed_until BIGINT NOT NULL DEFAULT 0,
  challenge_path TEXT NOT NULL DEFAULT '', -- of http-01, while it is asked for
  challenge_text TEXT NOT NULL DEFAULT '',
  chain TEXT NOT NULL DEFAULT '',   -- PEM
  expires BIGINT NOT NULL DEFAULT 0,
  renew BIGINT NOT NULL DEFAULT 0   -- when it is ordered anew
);
