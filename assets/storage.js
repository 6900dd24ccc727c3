// Put before each script that keeps something in this browser. A page in a frame may be denied its storage; then what it
// keeps ends with it. Without a value, this reads; null removes.
function stored(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch { /* see above */ }
  return null;
}
