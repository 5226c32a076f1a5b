# Runs before Redis starts, each time. Draws its password if there is none yet, and gives the files to the user of Redis
# and difuso. What Redis has written is its own already, and closed even to root without the right to read all.
set -eu
umask 077
cd /run/redis-auth
if [ ! -s password ]; then
    head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1 > password
    echo "requirepass $(cat password)" > redis.conf
fi
chown 10001:10001 /run/redis-auth /run/redis-auth/* /data
