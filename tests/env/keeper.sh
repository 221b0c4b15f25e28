# Runs one server, and kills it when the process that owns it ends.
# $1: the process to watch. $2: "run" if all tests of the run share the server, "test" if not. $3: the server's folder.
# $4: the file for the server's pid. $5...: the server's command line.
watched=$1 owner=$2 folder=$3 pid_file=$4
shift 4
"$@" &
server=$!
echo "$server" >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
while kill -0 "$watched" 2>/dev/null && kill -0 "$server" 2>/dev/null; do sleep 0.3; done
if ! kill -0 "$watched" 2>/dev/null; then
    kill -s "${KEEPER_SIGNAL:-KILL}" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    rm -rf "$folder"
    rm -f "$folder.lock"
    # The last keeper of a run deletes the run's folder.
    run=$(dirname "$folder")
    if [ "$owner" = run ] && ! ls "$run"/*/pid >/dev/null 2>&1; then rm -rf "$run"; fi
fi
exit 0
