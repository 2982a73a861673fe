module github.com/parley-meet/parley

go 1.26.0

toolchain go1.26.8

require (
	github.com/CycloneDX/cyclonedx-go v0.12.0 // tests: reader and schema of bills of materials
	github.com/boombuler/barcode v1.1.0 // QR codes for authenticator apps
	github.com/chromedp/cdproto v0.159.0 // tests: events and emulation of the browser
	github.com/chromedp/chromedp v0.23.0 // tests: a real browser looks at the pages
	github.com/diskfs/go-diskfs v1.9.4 // GPT, and file systems to compare ours with in tests
	github.com/getkin/kin-openapi v0.153.0 // tests: the judge of the API's description
	github.com/gokrazy/gokrazy v0.0.0-20260418085648-c38c3134b8a7 // Boot, the first steps of PID 1
	github.com/gokrazy/kernel.amd64 v0.0.0-20260705070735-de680abf072b // the kernel that is packed
	github.com/google/nftables v0.3.0 // the host firewall without nft(8), and so without starting a program
	github.com/insomniacslk/dhcp v0.0.0-20260901064844-234b97448fae // DHCP messages
	github.com/klauspost/compress v1.20.3 // deflate, three times as fast as the standard library
	github.com/mdlayher/ndp v1.1.0 // router advertisements: name servers, DHCPv6 or not
	github.com/mdlayher/packet v1.1.2 // packet sockets for DHCP before there is an address
	github.com/rogpeppe/go-internal v1.16.0 // tests: scripts of command lines
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // tests: the judge of JSON schemas
	github.com/vishvananda/netlink v1.3.1 // addresses, routes and links
	github.com/vmware/govmomi v0.53.0 // tests: the strict OVF reader of VMware tools
	golang.org/x/crypto v0.58.0 // argon2id, and its BLAKE2b
	golang.org/x/crypto/x509roots/fallback v0.0.0-20261030153154-30a33513ff6d // the usual certificate authorities
	golang.org/x/net v0.61.0 // BPF programs of packet sockets, and who is reached without the proxy
	golang.org/x/sync v0.24.0 // errgroup: tasks with one owner
	golang.org/x/sys v0.49.0 // system calls
	golang.org/x/term v0.47.0 // raw mode of terminals, progress bar
	pgregory.net/rapid v1.3.0 // tests: state machines with shrinking
)

require (
	github.com/jackc/pgx/v5 v5.12.0 // PostgreSQL, with its notifications
	github.com/prometheus/client_golang v1.25.0 // the figures of the portal in the format of Prometheus
	modernc.org/sqlite v1.62.0 // the portal's database in a file, without C
)

require (
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/elliotwutingfeng/asciiset v0.0.0-20260129054604-cfde2086bc57 // indirect
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // tests: sign-in at that mail server
	github.com/emersion/go-smtp v0.25.1 // tests: somebody else's mail server
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/go-openapi/jsonpointer v0.22.5 // indirect
	github.com/go-openapi/swag/jsonname v0.25.5 // indirect
	github.com/gokrazy/internal v0.0.0-20251208203110-3c1aa9087c82 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/google/renameio/v2 v2.0.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/puddle/v2 v2.2.3 // indirect
	github.com/josharian/native v1.1.0 // indirect
	github.com/kenshaw/evdev v0.1.0 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mdlayher/netlink v1.7.3-0.20250113171957-fbb4dce95f42 // indirect
	github.com/mdlayher/socket v0.5.0 // indirect
	github.com/mdlayher/watchdog v0.0.0-20201005150459-8bdc4f41966b // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/pierrec/lz4/v4 v4.1.26 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/spf13/pflag v1.0.10 // indirect
	github.com/u-root/uio v0.0.0-20230220225925-ffce2a382923 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	github.com/wneessen/go-mail v0.8.1 // SMTP of the portal's mails
	go.yaml.in/yaml/v4 v4.0.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	modernc.org/libc v1.80.1 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)

require (
	github.com/coder/websocket v1.8.15 // the link between appliances and the portal
	github.com/coreos/go-oidc/v3 v3.21.0 // sign-in by OpenID Connect
	github.com/go-jose/go-jose/v4 v4.1.8 // tickets: JSON Web Tokens and key sets
	github.com/golang-jwt/jwt/v5 v5.3.1 // indirect
	github.com/oauth2-proxy/mockoidc v0.0.0-20261103160011-e06ed0b7cb7f // tests: somebody else's OpenID provider
	golang.org/x/oauth2 v0.38.0 // the authorization code flow of that
)

require (
	github.com/arran4/golang-ical v0.3.4 // tests: somebody else reads calendar files
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/teambition/rrule-go v1.8.2 // recurrence of meetings (RFC 5545)
	golang.org/x/time v0.16.0 // the pace of messages on a link
	google.golang.org/protobuf v1.36.12 // indirect
)

require (
	github.com/johannesboyne/gofakes3 v1.2.0 // tests: object storage
	github.com/minio/minio-go/v7 v7.4.1 // object storage for releases
)

require (
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/klauspost/crc32 v1.3.0 // indirect
	github.com/letsencrypt/pebble/v2 v2.10.1 // tests: an authority that speaks ACME
	github.com/mholt/acmez/v3 v3.1.7 // certificates of controllers: ACME with a signing request made elsewhere
	github.com/miekg/dns v1.1.73 // updates of name servers with TSIG for dns-01; a name server in tests
	github.com/minio/crc64nvme v1.1.1 // indirect
	github.com/minio/md5-simd v1.1.2 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/rs/xid v1.6.0 // indirect
	github.com/ryszard/goskiplist v0.0.0-20150312221310-2dfbae5fcf46 // indirect
	github.com/tinylib/msgp v1.6.4 // indirect
	github.com/zeebo/xxh3 v1.1.0 // indirect
	go.shabbyrobe.org/gocovmerge v0.0.0-20230507111327-fa4f82cfbf4d // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	gopkg.in/ini.v1 v1.67.3 // indirect
)

require (
	github.com/pion/dtls/v2 v2.2.12 // DTLS of the media: keys of SRTP
	github.com/pion/ice/v2 v2.3.38 // ICE of the media: restarts
	github.com/pion/logging v0.2.4 // the form of its logs
	github.com/pion/srtp/v2 v2.0.20 // SRTP that comes in, and what has no GCM
	github.com/pion/transport/v2 v2.2.10 // one list of interfaces for all ICE agents
	github.com/pion/webrtc/v3 v3.3.6 // ICE and DTLS of the media
)

require (
	github.com/letsencrypt/challtestsrv v1.4.2 // indirect
	github.com/nats-io/nats-server/v2 v2.15.2 // the engine of the zone bus, in the process of each controller
	github.com/nats-io/nats.go v1.55.0 // its client
	github.com/pion/datachannel v1.5.8 // indirect
	github.com/pion/interceptor v0.1.51 // the empty registry of the load's clients
	github.com/pion/mdns v0.0.12 // indirect
	github.com/pion/randutil v0.1.0 // indirect
	github.com/pion/rtcp v1.2.20 // tests: somebody else reads and writes RTCP
	github.com/pion/rtp v1.10.6 // tests: somebody else's packets
	github.com/pion/sctp v1.8.19 // indirect
	github.com/pion/sdp/v3 v3.0.20 // syntax of session descriptions
	github.com/pion/stun v0.6.1 // tests: somebody else's requests
	github.com/pion/turn/v2 v2.1.6 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	github.com/wlynxg/anet v0.0.5 // indirect
)

require github.com/pion/turn/v4 v4.1.4 // TURN for networks that let only TLS out

require (
	github.com/antithesishq/antithesis-sdk-go v0.8.0-default-no-op // indirect
	github.com/google/go-tpm v0.9.8 // indirect
	github.com/minio/highwayhash v1.0.4 // indirect
	github.com/nats-io/jwt/v2 v2.8.2 // indirect
	github.com/nats-io/nkeys v0.4.16 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/pion/dtls/v3 v3.0.7 // indirect
	github.com/pion/stun/v3 v3.0.1 // indirect
	github.com/pion/transport/v3 v3.0.8 // indirect
	github.com/pion/transport/v4 v4.0.1 // indirect
)
