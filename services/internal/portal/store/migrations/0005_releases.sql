-- Releases: what can be downloaded.
CREATE TABLE releases (
  version TEXT PRIMARY KEY,
  notes_en TEXT NOT NULL DEFAULT '',
  notes_ru TEXT NOT NULL DEFAULT '',
  created BIGINT NOT NULL,
  published BIGINT NOT NULL DEFAULT 0, -- 0: files are still coming
  withdrawn BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE release_files (
  version TEXT NOT NULL REFERENCES releases(version) ON DELETE CASCADE,
  name TEXT NOT NULL,
  size BIGINT NOT NULL,
  sum TEXT NOT NULL,                -- SHA-256, hexadecimal: the blob's name
  PRIMARY KEY (version, name)
);
CREATE INDEX release_files_sum ON release_files (sum);
