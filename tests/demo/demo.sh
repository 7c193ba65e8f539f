#!/usr/bin/env bash
# A real file goes through a broker that is killed half-way; what comes out is what went in.
#   demo.sh [BUILD-FOLDER]
# Everything happens in a temporary directory on a free port, and is cleaned up, also after Ctrl-C.
set -euo pipefail

build=$(cd "${1:-build/release}" && pwd)
brokerd=$build/brokerd/brokerd
broker=$build/cli/broker
work=$(mktemp -d "${TMPDIR:-/tmp}/broker-demo-XXXXXX")
broker_pid='' consumer_pid='' reader_pid=''

say() { printf '%s\n' "$*"; }
die() {
    say "The demo failed: $*" >&2
    [[ -s $work/brokerd.log ]] && tail -n 15 "$work/brokerd.log" >&2
    exit 1
}

cleanup() {
    local pid
    for pid in $consumer_pid $reader_pid $broker_pid; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

now_ms() { printf '%s' $((${EPOCHREALTIME/[.,]/} / 1000)); }
thousands() { sed -E ':a; s/([0-9])([0-9]{3})(\b|,)/\1,\2\3/; ta' <<<"$1"; }
json_number() { sed -nE 's/.*"'"$1"'":([0-9]+).*/\1/p' <<<"$2"; }

# start_broker PORT (0: a free one): sets broker_pid and port, returns when it listens.
start_broker() {
    local log=$work/brokerd.log deadline=$(($(now_ms) + 20000)) line
    : >"$log"
    "$brokerd" --data "$work/data" --listen "127.0.0.1:$1" --http "" >>"$log" 2>&1 &
    broker_pid=$!
    disown "$broker_pid" # no word from the shell when it is killed
    until line=$(grep -m1 -oE 'listening on tcp [^ ]*:[0-9]+' "$log"); do
        kill -0 "$broker_pid" 2>/dev/null || die "brokerd did not start"
        (($(now_ms) < deadline)) || die "brokerd does not listen"
        sleep 0.01
    done
    port=${line##*:}
    export BROKER_URL=broker://127.0.0.1:$port
}

# Some real text of this machine, as numbered lines, so that each can be told from its like.
choose_file() {
    local file
    for file in /usr/share/dict/words /var/lib/dpkg/status /var/log/syslog /var/log/dpkg.log; do
        if [[ -r $file ]] && (($(head -n 2000 "$file" | wc -l) == 2000)); then
            source=$file
            head -n 50000 "$file" >"$work/original"
            return
        fi
    done
    source="a listing of /usr"
    find /usr 2>/dev/null | head -n 50000 >"$work/original" || true
}

[[ -x $brokerd && -x $broker ]] || die "no brokerd and broker in $build: build first"
mkdir "$work/data"
choose_file
cat -n "$work/original" >"$work/in"
lines=$(wc -l <"$work/in")
half=$((lines / 2))

say "1. A broker on an empty directory."
begin=$(now_ms)
start_broker 0
say "   brokerd listens on port $port after $(($(now_ms) - begin)) ms."

say "2. Publish $source line by line, each one confirmed only once it is on disk."
result=$("$broker" pub lines --create --json <"$work/in") || die "broker pub failed"
published=$(json_number published "$result")
((published == lines)) || die "$published of $lines lines were confirmed"
say "   $(thousands "$lines") lines published and confirmed: $(thousands "$(json_number rate "$result")") a second."

say "3. Consume them. After $(thousands "$half") lines the broker gets SIGKILL, as in a crash."
mkfifo "$work/pipe"
"$broker" sub lines --ack auto --drain --timeout 3s --quiet >"$work/pipe" 2>"$work/consumer.log" &
consumer_pid=$!
exec 3<"$work/pipe"
mapfile -n "$half" -u 3 first_half
printf '%s' "${first_half[@]}" >"$work/out"
# Read before the kill: what is acknowledged by now must not come a second time.
settled=$("$broker" group list lines --json | sed -nE 's/.*"floor_seq":([0-9]+).*/\1/p')
kill -KILL "$broker_pid"
while kill -0 "$broker_pid" 2>/dev/null; do sleep 0.01; done
say "   Killed. $(thousands "$settled") lines had been acknowledged for certain."

say "4. Start it again over the same directory. The consumer is still there and connects again by itself."
cat <&3 >>"$work/out" &
reader_pid=$!
exec 3<&-
begin=$(now_ms)
start_broker "$port"
say "   brokerd listens again after $(($(now_ms) - begin)) ms."
wait "$consumer_pid" || { cat "$work/consumer.log" >&2; die "the consumer ended with code $?"; }
consumer_pid=
wait "$reader_pid"
reader_pid=

say "5. Compare."
awk '!seen[$0]++' "$work/out" >"$work/once"
cmp -s "$work/once" "$work/in" || die "what came out is not what went in"
cut -f 2- "$work/once" | cmp -s - "$work/original" || die "the lines are not those of the file"
total=$(wc -l <"$work/out")
early=$(awk -v settled="$settled" 'seen[$0]++ && $1 <= settled' "$work/out" | wc -l)
((early == 0)) || die "$early lines came again although they had been acknowledged"
ready=$("$broker" group list lines --json | sed -nE 's/.*"ready":([0-9]+).*/\1/p')
((ready == 0)) || die "$ready lines are still in the queue"
say "   All $(thousands "$lines") lines came out, in order, byte for byte as they went in."
if ((total > lines)); then
    say "   $(thousands $((total - lines))) of them came twice: handed out before the crash, but not yet acknowledged. None that was acknowledged did."
else
    say "   None came twice."
fi

kill -TERM "$broker_pid"
while kill -0 "$broker_pid" 2>/dev/null; do sleep 0.01; done
broker_pid=
say "Done. Try it yourself: ./dev run"
