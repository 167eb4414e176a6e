# For scripts to source: programs find the emulated device as libcuda.so.1, and tbc an assembler that knows no
# architecture: the device takes PTX only, and ptxas needs seconds for a module. Wants $work, a folder for files.
printf '#!/bin/sh\n[ "$1" = --version ] || { echo "unknown gpu-name"; exit 255; }\n' >"$work/ptxas"
chmod +x "$work/ptxas"
export PATH="$work:$PATH"
export LD_LIBRARY_PATH="$TBC_BUILD/tests/emulator${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
