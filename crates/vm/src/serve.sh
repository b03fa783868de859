#!/bin/busybox sh
# The command server: one request at a time from the second serial port. src/protocol.rs is the other end.
#   data ID SIZE            then SIZE bytes of base64: appended to the standard input of the next run
#   run ID SECONDS SIZE     then SIZE bytes of base64: a shell script, killed after SECONDS
# The host waits for the answer before it sends the next request, so nothing is ever read too far.
port=/dev/ttyS1
work=/run/vm
stty -F $port 115200 raw -echo
exec 3<>$port
mkdir -p -m 700 $work
rm -f $work/in $work/never
mkfifo $work/never

# Kills the script's session when its time is over, and says so by a file. Waits without a child process.
watch_over() {
    read -r -t "$2" _ <>$work/never
    : >$work/late
    kill -KILL "-$1"
}

echo "@ready" >&3
while read -r verb id a b <&3; do
    case $verb in
    data)
        head -c "$a" <&3 | base64 -d >>$work/in
        echo "@taken $id" >&3
        ;;
    run)
        rm -f $work/late
        head -c "$b" <&3 | base64 -d >$work/script
        [ -e $work/in ] || : >$work/in
        # By its path: busybox would take itself for "sh", and for what the script calls, also on a disk with more.
        setsid /bin/sh $work/script <$work/in >$work/out 2>$work/err 3>&- &
        script=$!
        (watch_over $script "$a") 3>&- &
        watch=$!
        wait $script
        status=$?
        kill -KILL $watch 2>/dev/null
        wait $watch 2>/dev/null
        late=no
        [ -e $work/late ] && late=yes
        {
            echo "@done $id $status $late $(wc -c <$work/out) $(wc -c <$work/err)"
            base64 $work/out
            echo "@err"
            base64 $work/err
            echo "@end $id"
        } >&3
        rm -f $work/in
        ;;
    esac
done
