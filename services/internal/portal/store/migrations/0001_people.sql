-- Accounts, people, and what they log in with.
CREATE TABLE accounts (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  type TEXT NOT NULL,               -- basic, business, education, enterprise
  parent_id TEXT REFERENCES accounts(id), -- of a sub-account
  default_kind TEXT NOT NULL,       -- of users without a kind of their own
  connector_enabled BIGINT NOT NULL DEFAULT 0, -- when; 0 is off
  production BIGINT NOT NULL DEFAULT 0,        -- since when; 0 is test
  suspended BIGINT NOT NULL DEFAULT 0,
  created BIGINT NOT NULL
);
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  account_id TEXT REFERENCES accounts(id), -- null: a portal operator without an account
  email TEXT NOT NULL UNIQUE,       -- small letters
  name TEXT NOT NULL,
  role TEXT NOT NULL,               -- owner, admin, member; '' without an account
  kind TEXT NOT NULL DEFAULT '',    -- basic, licensed, onprem; '' as the groups or the account have it
  operator BOOLEAN NOT NULL DEFAULT FALSE,
  state TEXT NOT NULL,              -- unverified, invited, active, suspended
  password TEXT NOT NULL DEFAULT '', -- PHC string
  password_set BIGINT NOT NULL DEFAULT 0,
  factor {{blob}},                  -- second factor, sealed
  stamp BIGINT NOT NULL DEFAULT 0,  -- grows when sessions must end
  language TEXT NOT NULL DEFAULT '',
  timezone TEXT NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  used BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX users_account ON users (account_id);
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
CREATE TABLE links (                -- one-time links: verify, reset, invite, setup
  sum TEXT PRIMARY KEY,
  purpose TEXT NOT NULL,
  user_id TEXT REFERENCES users(id) ON DELETE CASCADE,
  data TEXT NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL
);
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
