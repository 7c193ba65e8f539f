/* Before the first paint: dark or light, if somebody has chosen. Without a choice the system's wish counts (app.css). */
(function () {
    "use strict";
    let choice = null;
    try {
        choice = localStorage.getItem("brokerd.theme");
    } catch (e) {
        /* storage is forbidden: then nothing is remembered */
    }
    if (choice === "dark" || choice === "light") document.documentElement.dataset.theme = choice;
})();
