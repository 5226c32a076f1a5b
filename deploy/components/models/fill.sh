# Fills an empty volume with the models of an image: fill.sh IMAGE_FOLDER VOLUME. A volume that was filled is left alone.
# Several pods may do this at once: a model gets its name when it is complete, and the first copy stays.
set -eu
copy=
trap 'rm -rf "$copy"' EXIT
[ ! -e "$2/.filled" ] || exit 0
for model in "$1"/*/; do
  name=$(basename "$model")
  [ ! -e "$2/$name" ] || continue
  copy=$(mktemp -d "$2/.$name.XXXXXX")
  cp -R "$model." "$copy"
  chmod 755 "$copy"
  mv -T "$copy" "$2/$name" 2>/dev/null || [ -e "$2/$name" ]
  rm -rf "$copy"
done
touch "$2/.filled"
