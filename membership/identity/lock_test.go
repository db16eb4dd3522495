package identity

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// lockHelperEnv makes the test binary a process that locks the directory it names, says
// so, and holds the lock until its standard input ends.
const lockHelperEnv = "IDENTITY_TEST_LOCK_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(lockHelperEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := Lock(dir); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestLockOfAnotherProcess(t *testing.T) {
	dir := newDir(t)
	helper := exec.Command(os.Args[0])
	helper.Env = append(os.Environ(), lockHelperEnv+"="+dir)
	stdin := must[io.WriteCloser](t)(helper.StdinPipe())
	stdout := must[io.ReadCloser](t)(helper.StdoutPipe())
	check(t, helper.Start())
	t.Cleanup(func() { stdin.Close(); _ = helper.Process.Kill(); _ = helper.Wait() })
	if line := must[string](t)(bufio.NewReader(stdout).ReadString('\n')); line != "locked\n" {
		t.Fatalf("the other process says %q", line)
	}

	_, err := Lock(dir)
	wantError(t, err, ErrLocked, fmt.Sprintf("%s is held by process %d; stop it first", dir, helper.Process.Pid))

	check(t, helper.Process.Kill()) // no chance to release
	_ = helper.Wait()
	release := must[func()](t)(Lock(dir))
	release()
}

func TestLockTwiceInOneProcess(t *testing.T) {
	dir := newDir(t)
	release := must[func()](t)(Lock(dir))
	_, err := Lock(dir)
	wantError(t, err, ErrLocked, fmt.Sprintf("process %d", os.Getpid()))
	release()
	release()
	again := must[func()](t)(Lock(dir))
	defer again()
	release() // of the first one: does not end the second
	_, err = Lock(dir)
	wantError(t, err, ErrLocked, "process")
}

func TestLockOfNothing(t *testing.T) {
	_, err := Lock(filepath.Join(tempDir(t), "absent"))
	wantError(t, err, ErrNoState, "does not exist")
}

func TestLockWithoutNumber(t *testing.T) {
	dir := newDir(t)
	release := must[func()](t)(Lock(dir))
	defer release()
	check(t, os.Truncate(filepath.Join(dir, fileLock), 0))
	_, err := Lock(dir)
	wantError(t, err, ErrLocked, "held by another process")
}

func TestCreateWhileAnotherIsAtIt(t *testing.T) {
	dir := tempDir(t)
	check(t, os.Chmod(dir, 0o700))
	release := must[func()](t)(Lock(dir))
	defer release()
	before := snapshot(t, dir)
	wantError(t, Create(dir, newSpec(t)), ErrLocked, "process")
	wantUnchanged(t, dir, before)
}
