# The "database": a directory that outlives the container, served over HTTP.
[ -e /data/greeting ] || echo "hello from the database" >/data/greeting
exec httpd -f -p 9000 -h /data
