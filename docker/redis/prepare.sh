# Runs once before Redis starts. Draws its password if there is none yet, and gives the files to the user of Redis and
# difuso.
set -eu
umask 077
cd /run/redis-auth
if [ ! -s password ]; then
    head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1 > password
    echo "requirepass $(cat password)" > redis.conf
fi
chown -R 10001:10001 /run/redis-auth /data
