# shellcheck shell=bash
# The systems under test: how each is installed, named by version, and started with settings that are good for it.
# All lead from $entry_port to $server_port on loopback; what is between is theirs.

systems_all=(adit haproxy-3 haproxy-1 haproxy-tls stunnel ssh socat direct)
# Not part of a whole run: haproxy-3-splice was slower than haproxy-3 or the same; penguin takes minutes to build.
# adit-epoll and adit-uring are adit on one backend.
systems_more=(haproxy-3-splice penguin adit-epoll adit-uring)

server_port=9000
entry_port=5000
# What lies between: the hops of a chain, or the two ends of an encrypted way.
hop_port=6000

# have_installed INSTALL SYSTEMS…: sees to it that what the systems named need is there: Debian's packages, and penguin from
# crates.io. Where INSTALL is 0 it fails over what is missing: such systems would fail in every round.
have_installed() {
  local install=$1 system missing=()
  shift
  need ip iproute2; need nsenter util-linux; need openssl openssl; need python3 python3
  for system in "$@"; do
    case $system in
      haproxy-*) need haproxy haproxy ;;
      stunnel) need stunnel4 stunnel4 ;;
      socat) need socat socat ;;
      ssh) need ssh openssh-client; need sshd openssh-server ;;
      penguin) if [ "$install" = 1 ]; then install_penguin; else need "$penguin" rusty-penguin; fi ;;
    esac
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  [ "$install" = 1 ] || die "not installed: ${missing[*]}" "leave --no-install away, or leave out systems with --without"
  # A package's own service would listen, and take time.
  local policy=/usr/sbin/policy-rc.d made=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=1
  fi
  apt-get update >&2
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}" >&2 ||
    { [ "$made" = 0 ] || rm -f "$policy"; die "not all could be installed" "apt-get update, then again"; }
  [ "$made" = 0 ] || rm -f "$policy"
}

# need PROGRAM PACKAGE: adds to `missing` of have_installed.
need() {
  PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null || missing+=("$2")
}

# A stand-in for wstunnel, which crates.io does not offer: TCP over WebSocket over TLS, also many in one.
install_penguin() {
  [ -x "$penguin" ] ||
    cargo install --locked --root "$root/target/peers/tools" rusty-penguin --version "$penguin_version" >&2
}
penguin_version=0.8.4
penguin=$root/target/peers/tools/bin/penguin

# One JSON object: name to version.
versions() {
  local system pairs=()
  for system in "$@"; do
    case $system in
      adit | adit-*) pairs+=(adit "$("$adit" --version)") ;;
      haproxy-*) pairs+=(haproxy "$(haproxy -v | head -n 1)") ;;
      stunnel) pairs+=(stunnel "$(stunnel4 -version 2>&1 | grep -m 1 -o 'stunnel [0-9.]*')") ;;
      socat) pairs+=(socat "$(socat -V | grep -m 1 -o 'socat version [0-9.]*')") ;;
      ssh) pairs+=(ssh "$(ssh -V 2>&1)") ;;
      penguin) pairs+=(penguin "rusty-penguin $penguin_version") ;;
    esac
  done
  pairs+=(adit-loadgen "$("$loadgen" --version)")
  python3 -c 'import json, sys; a = sys.argv[1:]; print(json.dumps(dict(zip(a[::2], a[1::2]))))' "${pairs[@]}"
}

# Keys and certificates, and adit's tunnel, once for all runs. They are for nobody else to read.
prepare_secrets() {
  secrets=$work/secrets
  (
    umask 077
    mkdir -p "$secrets"
    cd "$secrets"
    new_certificate authority -subj /CN=authority
    new_certificate localhost -subj /CN=localhost -addext subjectAltName=DNS:localhost \
      -addext basicConstraints=critical,CA:FALSE -CA authority.pem -CAkey authority-key.pem
    cat localhost.pem localhost-key.pem >both.pem
    ssh-keygen -q -t ed25519 -N '' -f host-key
    ssh-keygen -q -t ed25519 -N '' -f user-key
    cp user-key.pub authorized-keys
    printf '[127.0.0.1]:%s %s\n' "$hop_port" "$(cut -d ' ' -f 1,2 host-key.pub)" >known-hosts
  )
}

# new_certificate NAME OPTIONS…: NAME.pem and NAME-key.pem.
new_certificate() {
  local name=$1
  shift
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "$@" \
    -keyout "$name-key.pem" -out "$name.pem" 2>openssl.log || die "no certificate: $(tail -n 1 openssl.log)"
}

# The far end itself: what the generator, its server and loopback can do.
start_direct() {
  entry_port=$server_port
}

# With further options for all three processes.
start_adit() {
  entry_port=5000
  local data=$logs/adit-data tokens=$logs/adit-tokens
  start relay "$adit" serve --data-dir "$data" --api-listen 127.0.0.1:7401 --tunnel-listen 127.0.0.1:7443 --loops 1 "$@"
  until_true "no service" [ -e "$data/endpoints.json" ] || return 1
  inside "$adit" tunnel open --data-dir "$data" --service LOAD --token-dir "$tokens" >"$logs/open.log" 2>&1 || return 1
  start destination "$adit" proxy -e localhost:7443 -c "$data/ca.pem" -d "LOAD=127.0.0.1:$server_port" \
    --access-token-file "$tokens/destination-token" "$@"
  start source "$adit" proxy -e localhost:7443 -c "$data/ca.pem" -s "LOAD=127.0.0.1:$entry_port" \
    --access-token-file "$tokens/source-token" "$@"
}

start_adit-epoll() { start_adit --io epoll; }
start_adit-uring() { start_adit --io uring; }

start_haproxy-1() {
  entry_port=5000
  start_haproxy only "bind 127.0.0.1:$entry_port" "127.0.0.1:$server_port"
}

start_haproxy-3() {
  entry_port=5000
  local first=$((hop_port + 1)) second=$((hop_port + 2))
  start_haproxy destination "bind 127.0.0.1:$second" "127.0.0.1:$server_port" "${1:-}"
  start_haproxy relay "bind 127.0.0.1:$first" "127.0.0.1:$second" "${1:-}"
  start_haproxy source "bind 127.0.0.1:$entry_port" "127.0.0.1:$first" "${1:-}"
}

start_haproxy-3-splice() {
  start_haproxy-3 'option splice-auto'
}

start_haproxy-tls() {
  entry_port=5000
  local cipher='ciphersuites TLS_AES_128_GCM_SHA256'
  start_haproxy far "bind 127.0.0.1:$hop_port ssl crt $secrets/both.pem ssl-min-ver TLSv1.3 $cipher" \
    "127.0.0.1:$server_port"
  start_haproxy near "bind 127.0.0.1:$entry_port" "127.0.0.1:$hop_port ssl verify required \
    ca-file $secrets/authority.pem verifyhost localhost sni str(localhost) ssl-min-ver TLSv1.3 $cipher"
}

# start_haproxy NAME BIND SERVER [OPTION]. Of twenty thousand descriptors a connection takes two, and so does a pipe;
# without an option for splicing there is no pipe.
start_haproxy() {
  local file=$logs/$1.cfg
  cat >"$file" <<CONFIG
global
  nbthread 1
  maxconn 9000
  maxpipes 500
defaults
  mode tcp
  maxconn 9000
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  ${4:-}
listen all
  $2
  server next $3
CONFIG
  start "$1" haproxy -db -f "$file"
}

start_stunnel() {
  entry_port=5000
  start_stunnel_end far <<CONFIG
accept = 127.0.0.1:$hop_port
connect = 127.0.0.1:$server_port
cert = $secrets/localhost.pem
key = $secrets/localhost-key.pem
CONFIG
  start_stunnel_end near <<CONFIG
client = yes
accept = 127.0.0.1:$entry_port
connect = 127.0.0.1:$hop_port
CAfile = $secrets/authority.pem
verifyChain = yes
checkHost = localhost
CONFIG
}

# start_stunnel_end NAME <SERVICE. Handshakes are resumed from the session cache.
start_stunnel_end() {
  local file=$logs/$1.conf
  {
    cat <<CONFIG
foreground = yes
pid =
debug = warning
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[all]
sslVersion = TLSv1.3
ciphersuites = TLS_AES_128_GCM_SHA256
sessionCacheSize = 10000
CONFIG
    cat
  } >"$file"
  start "$1" stunnel4 "$file"
}

start_socat() {
  entry_port=5000
  is_forking=1
  start only socat -b 65536 "TCP-LISTEN:$entry_port,bind=127.0.0.1,reuseaddr,fork,backlog=4096,nodelay" \
    "TCP:127.0.0.1:$server_port,nodelay"
}

start_ssh() {
  entry_port=5000
  cat >"$logs/sshd.conf" <<CONFIG
ListenAddress 127.0.0.1:$hop_port
HostKey $secrets/host-key
AuthorizedKeysFile $secrets/authorized-keys
StrictModes no
PidFile none
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
Compression no
Ciphers aes128-gcm@openssh.com
CONFIG
  mkdir -p /run/sshd
  # sshd starts itself anew for each login, by its whole path.
  start far "$(PATH="$PATH:/usr/sbin" command -v sshd)" -D -e -f "$logs/sshd.conf"
  until_listening "$hop_port" || return 1
  start near ssh -F none -N -T -p "$hop_port" -i "$secrets/user-key" -o IdentitiesOnly=yes -o BatchMode=yes \
    -o UserKnownHostsFile="$secrets/known-hosts" -o StrictHostKeyChecking=yes -o ExitOnForwardFailure=yes \
    -o Compression=no -c aes128-gcm@openssh.com -L "127.0.0.1:$entry_port:127.0.0.1:$server_port" "$(id -un)@127.0.0.1"
}

start_penguin() {
  entry_port=5000
  start far "$penguin" server --host 127.0.0.1 --port "$hop_port" \
    --tls-cert "$secrets/localhost.pem" --tls-key "$secrets/localhost-key.pem"
  until_listening "$hop_port" || return 1
  start near "$penguin" client --tls-ca "$secrets/authority.pem" "wss://localhost:$hop_port/ws" \
    "127.0.0.1:$entry_port:127.0.0.1:$server_port"
}

# Waits until somebody listens on a port of the namespace.
until_listening() {
  until_true "nobody listens on port $1" is_listening "$1"
}

is_listening() {
  [ -n "$(inside ss -Hltn "sport = :$1")" ]
}

# until_true COMPLAINT COMMAND…: 10 s.
until_true() {
  local complaint=$1 tries
  shift
  for ((tries = 0; tries < 200; tries++)); do
    ! "$@" || return 0
    sleep 0.05
  done
  say "$complaint: $(tail -qn 2 "$logs"/*.log | tr '\n' ' ')"
  return 1
}
