// Before anything is shown: the look that was chosen, so that no other one flashes by.
{
  let theme = null;
  try {
    theme = localStorage.getItem("keybroker.theme");
  } catch {
    // Nothing may be kept here: the system's look it is.
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
}
