-- Accounts, people, and what they log in with.
CREATE TABLE accounts (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL DEFAULT '', -- people.Key of the name, to search and sort by
  type TEXT NOT NULL,               -- basic, business, education, enterprise
  parent_id TEXT REFERENCES accounts(id), -- of a sub-account
  default_kind TEXT NOT NULL,       -- of users without a kind of their own
  connector_enabled BIGINT NOT NULL DEFAULT 0, -- when; 0 is off
  production BIGINT NOT NULL DEFAULT 0,        -- since when; 0 is test
  suspended BIGINT NOT NULL DEFAULT 0,
  held BOOLEAN NOT NULL DEFAULT FALSE, -- suspended by an operator: only one lets it in again
  closed BIGINT NOT NULL DEFAULT 0, -- by its owner, or the one above; then it is suspended too, and deleted later
  require_factor BOOLEAN NOT NULL DEFAULT FALSE, -- nobody signs in without a second factor
  created BIGINT NOT NULL
);
CREATE INDEX accounts_name ON accounts (name_key, id);
CREATE INDEX accounts_parent ON accounts (parent_id);
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  account_id TEXT REFERENCES accounts(id), -- null: a portal operator without an account
  email TEXT NOT NULL UNIQUE,       -- small letters
  name TEXT NOT NULL,
  name_key TEXT NOT NULL DEFAULT '', -- people.Key of the name, to search and sort by
  role TEXT NOT NULL,               -- owner, admin, member; '' without an account
  kind TEXT NOT NULL DEFAULT '',    -- basic, licensed, onprem; '' as the groups or the account have it
  operator BOOLEAN NOT NULL DEFAULT FALSE,
  state TEXT NOT NULL,              -- unverified, invited, active, suspended
  password TEXT NOT NULL DEFAULT '', -- PHC string
  password_set BIGINT NOT NULL DEFAULT 0,
  factor {{blob}},                  -- second factor, sealed
  factor_pending {{blob}},          -- the secret of one that is being set up, sealed
  stamp BIGINT NOT NULL DEFAULT 0,  -- grows when sessions must end
  language TEXT NOT NULL DEFAULT '',
  timezone TEXT NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  used BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX users_account ON users (account_id, name_key, id);
CREATE TABLE groups (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts(id),
  name TEXT NOT NULL,
  kind TEXT NOT NULL DEFAULT '',
  UNIQUE (account_id, name)
);
CREATE TABLE group_members (
  group_id TEXT NOT NULL REFERENCES groups(id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id);
CREATE TABLE sessions (
  sum TEXT PRIMARY KEY,             -- SHA-256 of the cookie's token
  id TEXT NOT NULL UNIQUE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  stamp BIGINT NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL,
  made BIGINT NOT NULL,
  used BIGINT NOT NULL,
  flash TEXT NOT NULL DEFAULT ''
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_made ON sessions (made);
CREATE TABLE api_tokens (
  id TEXT PRIMARY KEY,
  account_id TEXT REFERENCES accounts(id),
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  title TEXT NOT NULL,
  scopes TEXT NOT NULL,             -- separated by spaces
  sum TEXT NOT NULL UNIQUE,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  used BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX api_tokens_user ON api_tokens (user_id);
CREATE TABLE signins (              -- sign-ins that wait for a code, or for a second factor to be set up
  sum TEXT PRIMARY KEY,             -- SHA-256 of the cookie's token
  kind TEXT NOT NULL,               -- code, enrol
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  stamp BIGINT NOT NULL DEFAULT 0,
  data TEXT NOT NULL DEFAULT '',    -- page to go on to
  expires BIGINT NOT NULL
);
CREATE TABLE providers (            -- of sign-in by OpenID Connect
  id TEXT PRIMARY KEY,
  label TEXT NOT NULL,              -- on the button
  issuer TEXT NOT NULL,
  client_id TEXT NOT NULL,
  secret {{blob}} NOT NULL,         -- sealed
  domains TEXT NOT NULL DEFAULT '', -- of addresses that may come by it, separated by spaces; '' is any
  account_id TEXT REFERENCES accounts(id), -- whose people it is for, and in which new ones are made; null: those who are there
  created BIGINT NOT NULL
);
CREATE TABLE identities (           -- who a person is to a provider
  provider_id TEXT NOT NULL REFERENCES providers(id) ON DELETE CASCADE,
  subject TEXT NOT NULL,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
  created BIGINT NOT NULL,
  PRIMARY KEY (provider_id, subject),
  UNIQUE (provider_id, user_id)
);
CREATE INDEX identities_user ON identities (user_id);
CREATE TABLE mails (                -- the outbox
  id TEXT PRIMARY KEY,
  address TEXT NOT NULL,
  kind TEXT NOT NULL,
  message {{blob}},                 -- sealed; null once it is sent
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,          -- then it is not worth sending
  next BIGINT NOT NULL,             -- attempt, or until when an instance has it
  attempts BIGINT NOT NULL DEFAULT 0,
  sent BIGINT NOT NULL DEFAULT 0,
  error TEXT NOT NULL DEFAULT ''    -- of the last attempt
);
CREATE INDEX mails_next ON mails (sent, next);
CREATE INDEX mails_address ON mails (address, created);
CREATE TABLE links (                -- one-time links: verify, reset, invite, setup
  sum TEXT PRIMARY KEY,
  purpose TEXT NOT NULL,
  user_id TEXT REFERENCES users(id) ON DELETE CASCADE,
  data TEXT NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL
);
CREATE INDEX links_user ON links (user_id);
CREATE INDEX links_expires ON links (expires);
CREATE TABLE audit (
  id TEXT PRIMARY KEY,              -- sorts by time
  account_id TEXT,                  -- null: the portal itself
  at BIGINT NOT NULL,
  user_id TEXT NOT NULL,
  name TEXT NOT NULL,               -- as it was then
  via TEXT NOT NULL,
  address TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  details TEXT NOT NULL DEFAULT ''  -- JSON object
);
CREATE INDEX audit_account ON audit (account_id, id);
CREATE TABLE settings (             -- of the portal itself
  name TEXT PRIMARY KEY,
  value {{blob}} NOT NULL
);
