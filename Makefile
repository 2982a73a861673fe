# Parley. The two commands are make run and make test.

# The userland is Go alone, and so is everything that builds it.
export CGO_ENABLED = 0

.PHONY: image run test test-long bench-image bench-router setup-run setup-test setup-long clean

# The appliance: OVF, VMDK, OVA and a raw disk in dist/.
image:
	go run ./tools/mkovf -format raw

# Build the appliance and boot it in QEMU, the serial line on this terminal.
run: setup-run image
	go run ./tools/vm

# Everything that is tested, as CI runs it: fixed seeds, sampled counts.
test: setup-test
	.ci/test

# The same with full counts. A run that was cut off goes on where it was.
test-long: setup-long
	PARLEY_LONG=1 .ci/test

# Our writers against qemu-img and mksquashfs: a table, then a line of JSON.
bench-image: setup-test image
	go run ./tools/bench-image -disk dist/parley.raw

# The router against LiveKit: rounds printed raw, then a line of JSON.
bench-router: setup-run
	.ci/bench-router

setup-run:
	.ci/setup run

setup-test:
	.ci/setup test

setup-long:
	.ci/setup long

clean:
	rm -rf dist artefacts
